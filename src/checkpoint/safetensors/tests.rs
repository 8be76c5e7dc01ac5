use super::*;
use crate::error::Kind;
use candle_core::DType;

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn open(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let mut tensors = BTreeMap::new();
    read(&path, &mut tensors, None)?;
    Ok(tensors)
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let error = open(bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

#[test]
fn every_type_of_value_is_read() {
    for (dtype, width, expected) in [
        ("F64", 8, DType::F64),
        ("F32", 4, DType::F32),
        ("F16", 2, DType::F16),
        ("BF16", 2, DType::BF16),
        ("I64", 8, DType::I64),
        ("I8", 1, DType::I16),
        ("U8", 1, DType::U8),
        ("BOOL", 1, DType::U8),
    ] {
        let header = format!(
            r#"{{"a":{{"dtype":"{dtype}","shape":[3],"data_offsets":[0,{}]}}}}"#,
            3 * width
        );
        let tensors = open(&file(header.as_bytes(), &vec![0; 3 * width])).unwrap();
        assert_eq!(
            (tensors["a"].dtype(), tensors["a"].dims()),
            (expected, &[3][..])
        );
    }
}

#[test]
fn what_is_written_reads_back_with_its_digest_whatever_the_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let types = [
        Dtype::F64,
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I64,
        Dtype::I32,
        Dtype::I16,
        Dtype::I8,
        Dtype::U32,
        Dtype::U8,
        Dtype::BOOL,
    ];
    let entries = types.map(|dtype| Entry {
        name: format!("{dtype:?}"),
        dtype,
        shape: vec![1, 3],
    });
    let bytes = |entry: &Entry| (0..entry.bytes() as u8).map(|i| i % 7).collect::<Vec<_>>();
    let digest = write(&path, entries.to_vec(), |entry| Ok(bytes(entry))).unwrap();
    let (mut tensors, sum) = (BTreeMap::new(), Summing::begin().unwrap());
    read(&path, &mut tensors, Some(&sum)).unwrap();
    assert_eq!(sum.finish().get(), digest);
    assert_eq!(crate::io::sha256::digest(&path).unwrap(), digest);
    for entry in entries {
        let tensor = &tensors[&entry.name];
        assert_eq!(tensor.dims(), [1, 3]);
        if entry.dtype != Dtype::I8 {
            let mut found = Sha256::new();
            add(&mut found, tensor);
            assert_eq!(
                found.finalize(),
                Sha256::digest(bytes(&entry)),
                "{}",
                entry.name
            );
        }
    }
    assert_eq!(tensors["I8"].to_vec2::<i16>().unwrap(), [[0, 1, 2]]);
    assert!(safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap()).is_ok());
}

#[test]
fn a_damaged_header_is_an_error() {
    refused(b"", &["header"]);
    refused(&[1, 0, 0], &["header"]);
    refused(&file(b"", b""), &["header"]);
    refused(&file(b"", b"123456789"), &["header"]);
    refused(&file(b" {}", b""), &["header", "'{'"]);
    refused(&file(b"{\xff}", b""), &["header", "UTF-8"]);
    refused(&file(b"{nonsense", b""), &["header"]);
    refused(&file(b"{}x", b""), &["header"]);
    refused(
        &[&1000u64.to_le_bytes()[..], b"{}"].concat(),
        &["header", "1000"],
    );
    refused(
        &[&100_000_001u64.to_le_bytes()[..], b"{}"].concat(),
        &["header"],
    );
    refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["header"]);
    let nested = "{\"a\":".repeat(100_000);
    refused(&file(nested.as_bytes(), b""), &["header"]);
}

#[test]
fn data_that_does_not_tile_the_file_is_an_error() {
    let two = |from: i64, to: i64| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}}}"#
        )
    };
    assert!(open(&file(two(8, 12).as_bytes(), &[0; 12])).is_ok());
    refused(
        &file(two(4, 8).as_bytes(), &[0; 12]),
        &["tensor b", "overlap"],
    );
    refused(
        &file(two(12, 16).as_bytes(), &[0; 16]),
        &["tensor b", "hole"],
    );
    refused(&file(two(-4, 8).as_bytes(), &[0; 12]), &["tensor b"]);
    refused(
        &file(two(8, 16).as_bytes(), &[0; 16]),
        &["tensor b", "4 bytes"],
    );
    refused(&file(two(8, 4).as_bytes(), &[0; 16]), &["tensor b"]);
    refused(&file(ONE.as_bytes(), &[0; 9]), &["1 bytes follow"]);
    refused(&file(ONE.as_bytes(), &[0; 7]), &["tensor a", "truncated"]);
    for shape in ["4611686018427387904,4", "18446744073709551615", "-1", "1.5"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,8]}}}}"#);
        refused(&file(header.as_bytes(), &[0; 8]), &["tensor a"]);
    }
}

#[test]
fn duplicate_names_unknown_fields_and_types_are_errors() {
    let entry = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    refused(
        &file(format!("{{{entry},{entry}}}").as_bytes(), &[0; 8]),
        &["duplicate tensor a"],
    );
    refused(
        &file(
            ONE.replace("\"shape\"", "\"x\":1,\"shape\"").as_bytes(),
            &[0; 8],
        ),
        &["tensor a"],
    );
    refused(
        &file(ONE.replace("F32", "F33").as_bytes(), &[0; 8]),
        &["tensor a"],
    );
    refused(
        &file(
            ONE.replace("F32", "C64").replace("[2]", "[1]").as_bytes(),
            &[0; 8],
        ),
        &["tensor a", "C64"],
    );
}

#[test]
fn a_pickle_under_another_name_is_refused_with_the_way_out() {
    for start in [
        &b"PK\x03\x04\x00\x00\x00\x00\x08\x08\x00"[..],
        b"\x80\x02}q\x00(X\x04\x00\x00\x00",
    ] {
        let error = open(start).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(
            error.to_string().contains("crocuta models convert"),
            "{error}"
        );
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_the_header_is_an_error_or_a_model_never_a_panic() {
    let good = file(ONE.as_bytes(), &[0; 8]);
    for end in 0..good.len() {
        assert!(open(&good[..end]).is_err());
    }
    for bit in 0..(good.len() - 8) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let _ = open(&bad);
    }
}
