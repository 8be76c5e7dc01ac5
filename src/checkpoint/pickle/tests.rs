//! Pickles as Python writes them, and as attackers do.

use super::*;

#[test]
fn what_python_writes_is_read() {
    // pickle.dumps({"a": (1, -2, 70000), "b": [2**40]}, protocol=4)
    let four = b"\x80\x04\x95\x27\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94K\x01J\xfe\xff\xff\xffJp\x11\x01\0\x87\x94\x8c\x01b\x94]\x94\x8a\x06\0\0\0\0\0\x01au.";
    let pickle = Pickle::read(four).unwrap();
    let Some(Value::List(a)) = pickle.get(pickle.root(), "a") else {
        panic!()
    };
    let numbers = a.iter().map(|id| pickle.at(*id)).collect::<Vec<_>>();
    assert_eq!(
        numbers,
        [&Value::Int(1), &Value::Int(-2), &Value::Int(70000)]
    );
    let Some(Value::List(b)) = pickle.get(pickle.root(), "b") else {
        panic!()
    };
    assert_eq!(pickle.at(b[0]), &Value::Int(1 << 40));
}

#[test]
fn classes_that_are_not_known_are_kept_as_calls_and_do_no_harm() {
    // An OrderedDict with a defaultdict of unknown items beside the item that is wanted.
    let bytes = b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0dccollections\ndefaultdict\nctyping\nAny\n\x85RX\x01\0\0\0xK\x01sX\x01\0\0\0wK\x07u}X\x09\0\0\0_metadataNsb.";
    let pickle = Pickle::read(bytes).unwrap();
    assert_eq!(pickle.get(pickle.root(), "w"), Some(&Value::Int(7)));
    assert!(matches!(
        pickle.get(pickle.root(), "d"),
        Some(Value::Call(..))
    ));
}

#[test]
fn damage_is_an_error_that_names_the_byte() {
    for (bytes, what) in [
        (&b""[..], "truncated"),
        (b"\x80\x02}", "truncated"),
        (b"\x80\x09", "protocol 9"),
        (b"\x80\x02\xff.", "opcode 0xff"),
        (b"I1\n.", "opcode 0x49"),
        (b"iposix\nsystem\n.", "opcode 0x69"),
        (b"cos\nsystem\nX\x02\0\0\0id\x85R.", "os.system"),
        (b"\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        (b"c__builtin__\neval\n.", "eval"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", "truncated"),
        (b"K\x01u.", "no mark"),
        (b"(K\x01(0.", "stack is empty"),
        (b"}(K\x01u.", "without a value"),
        (b"h\x05.", "memo entry 5"),
        (b"\x87.", "stack is empty"),
        (b".", "stack is empty"),
    ] {
        let error = Pickle::read(bytes).err().unwrap().to_string();
        assert!(
            error.contains("pickle byte") && error.contains(what),
            "{error}"
        );
    }
}

#[test]
fn nesting_and_sharing_cost_no_stack_and_no_expansion() {
    let nested = [&b")"[..], &vec![0x85; 2_000_000], b"."].concat();
    assert!(Pickle::read(&nested).is_ok());
    // Each step is a pair of the step before: 2^60 leaves if it were expanded.
    let doubling = [&b")"[..], &b"2\x86".repeat(60), b"."].concat();
    assert!(Pickle::read(&doubling).is_ok());
    let many = [&vec![b'N'; MAX_VALUES + 1][..], b"."].concat();
    assert!(
        Pickle::read(&many)
            .err()
            .unwrap()
            .to_string()
            .contains("more than")
    );
    // A memo key of 2^32 - 1 must not be an index.
    assert!(Pickle::read(b")r\xff\xff\xff\xffj\xff\xff\xff\xff.").is_ok());
}
