//! The stack, the values and the memo of a pickle that is being read.

use super::{Id, MAX_VALUES, Value};
use std::collections::HashMap;

/// A pickle that is being read, and what was read of it.
#[derive(Default)]
pub(super) struct Machine<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub values: Vec<Value<'a>>,
    pub stack: Vec<Id>,
    pub marks: Vec<usize>,
    pub memo: HashMap<u32, Id>,
}

/// What is wrong at an opcode.
pub(super) type OpcodeResult<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// A little-endian number of so many bytes, 8 at most.
    pub fn number(&mut self, bytes: usize) -> OpcodeResult<u64> {
        let mut wide = [0; 8];
        let taken = self.take(bytes as u64)?;
        wide[..bytes].copy_from_slice(taken);
        Ok(u64::from_le_bytes(wide))
    }

    /// A number that is not negative.
    pub fn int(&mut self, bytes: usize) -> OpcodeResult<()> {
        let value = self.number(bytes)?;
        self.push(Value::Int(value as i64))
    }

    pub fn take(&mut self, length: u64) -> OpcodeResult<&'a [u8]> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length));
        let slice = end
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or("the pickle is truncated")?;
        self.at += slice.len();
        Ok(slice)
    }

    pub fn line(&mut self) -> OpcodeResult<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("the pickle is truncated")?;
        let line = self.take(length as u64)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name that is not UTF-8".into())
    }

    pub fn push(&mut self, value: Value<'a>) -> OpcodeResult<()> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// The stack's height at the last mark: opcodes do not reach below it.
    pub fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub fn pop(&mut self) -> OpcodeResult<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub fn top(&self) -> OpcodeResult<Id> {
        let top = self
            .stack
            .get(self.floor()..)
            .and_then(|stack| stack.last());
        top.copied().ok_or_else(|| "the stack is empty".into())
    }

    pub fn pop_mark(&mut self) -> OpcodeResult<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    pub fn top_value(&mut self) -> OpcodeResult<&mut Value<'a>> {
        let top = self.top()?;
        self.values
            .get_mut(top as usize)
            .ok_or_else(|| "the stack is empty".into())
    }

    /// Appends to the list at the top; items of other classes are not kept.
    pub fn append(&mut self, items: Vec<Id>) -> OpcodeResult<()> {
        if let Value::List(list) = self.top_value()? {
            list.extend(items);
        }
        Ok(())
    }

    /// Sets keys and values in the dictionary at the top; items of other classes are not kept.
    pub fn set(&mut self, items: &[Id]) -> OpcodeResult<()> {
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        if let Value::Dict(dict) = self.top_value()? {
            dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    /// A text, after its length in so many bytes.
    pub fn text(&mut self, width: usize) -> OpcodeResult<()> {
        let length = self.number(width)?;
        let bytes = self.take(length)?;
        // Python 2's strings may hold bytes.
        self.push(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text))
    }

    /// Bytes, after their length.
    pub fn skip(&mut self, width: usize) -> OpcodeResult<()> {
        let length = self.number(width)?;
        self.take(length)?;
        self.push(Value::Other)
    }

    /// A little-endian two's complement number of any length, after its length.
    pub fn long(&mut self, width: usize) -> OpcodeResult<()> {
        let length = self.number(width)?;
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        self.push(match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            None => Value::Other,
        })
    }

    pub fn global(&mut self, module: &'a str, name: &'a str) -> OpcodeResult<()> {
        if runs_code(module, name) {
            return Err(format!(
                "the file wants to run {module}.{name}; nothing was run"
            ));
        }
        self.push(Value::Global(module, name))
    }

    pub fn call(&mut self, callable: Id, args: Id) -> OpcodeResult<()> {
        self.push(match self.value(callable) {
            Value::Global("collections", "OrderedDict") => Value::Dict(Vec::new()),
            _ => Value::Call(callable, args),
        })
    }

    pub fn memoize(&mut self, key: u32) -> OpcodeResult<()> {
        if self.memo.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} memo entries"));
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    pub fn recall(&mut self, key: u32) -> OpcodeResult<()> {
        let id = self
            .memo
            .get(&key)
            .ok_or_else(|| format!("memo entry {key} was never set"))?;
        self.stack.push(*id);
        Ok(())
    }
}

/// Names that no checkpoint needs and that attacks are made of. Nothing would be run in any case:
/// this is to say so, rather than to pass over it.
fn runs_code(module: &str, name: &str) -> bool {
    const MODULES: &str = " asyncio code codeop commands ctypes importlib multiprocessing nt os \
        pickle platform posix pty runpy shutil signal socket subprocess sys threading timeit \
        webbrowser ";
    const BUILTINS: &str = " __import__ apply breakpoint compile delattr eval exec execfile \
        getattr globals input open setattr ";
    let root = module.split('.').next().unwrap_or(module);
    match root {
        "builtins" | "__builtin__" => BUILTINS.contains(&format!(" {name} ")),
        _ => MODULES.contains(&format!(" {root} ")),
    }
}
