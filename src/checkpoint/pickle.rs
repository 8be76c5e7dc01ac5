//! Pickles, read as data: nothing is imported, called or executed.
//!
//! The machine knows the opcodes that protocols 2 to 4 write, and keeps calls and instances as
//! the record of what was to be called. Values live in one list and refer to each other by
//! place, so nesting costs no stack and shared values are never expanded.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// Most values, and most memo entries. HyenaDNA's largest file makes a few thousand.
const MAX_VALUES: usize = 1 << 22;

/// The place of a value.
pub type Id = u32;

/// A value; texts and bytes are slices of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A text.
    Text(&'a str),
    /// A tuple or list.
    List(Vec<Id>),
    /// A dictionary, `collections.OrderedDict` included, in the order of insertion.
    Dict(Vec<(Id, Id)>),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    /// What was to be called, and its tuple of arguments.
    Call(Id, Id),
    /// An object that the pickler stored elsewhere.
    Persistent(Id),
    /// Anything else.
    Other,
}

/// A whole pickle.
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle. Memory is at most some 100 bytes for each of its bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut machine = Machine {
            bytes,
            ..Machine::default()
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self {
                        values: machine.values,
                        root,
                    });
                }
                Err(what) => return Err(Error::model(what).place(format!("pickle byte {at}"))),
            }
        }
    }

    /// The value that the pickle holds.
    pub fn root(&self) -> &Value<'a> {
        self.at(self.root)
    }

    /// The value at a place that another value names.
    pub fn at(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    /// The value of a text key of a dictionary.
    pub fn get(&self, dict: &Value<'a>, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(items) = dict else {
            return None;
        };
        let item = items
            .iter()
            .rev()
            .find(|(k, _)| self.at(*k) == &Value::Text(key));
        item.map(|(_, value)| self.at(*value))
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// What is wrong at an opcode.
type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// Runs one opcode; at the end of the pickle, returns its value.
    fn step(&mut self) -> Step<Option<Id>> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO, FRAME
            0x80 => match self.array()? {
                [2..=5] => {}
                [other] => return Err(format!("protocol {other} is not supported")),
            },
            0x95 => drop(self.array::<8>()?),
            // MARK, POP, POP_MARK, DUP, STOP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'.' => return self.pop().map(Some),
            // NONE, NEWTRUE, NEWFALSE, EMPTY_SET
            b'N' | 0x88 | 0x89 | 0x8f => self.push(Value::Other)?,
            // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other)?;
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8, SHORT_BINSTRING, BINSTRING
            0x8c | b'U' => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => {
                let [length] = self.array()?;
                self.skip(length.into())?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.skip(length.into())?;
            }
            0x8e => {
                let length = u64::from_le_bytes(self.array()?);
                self.skip(length)?;
            }
            // EMPTY_TUPLE, EMPTY_LIST, TUPLE, LIST, FROZENSET, TUPLE1, TUPLE2, TUPLE3
            b')' | b']' => self.push(Value::List(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                let from = from
                    .filter(|from| *from >= self.floor())
                    .ok_or("the stack is empty")?;
                let items = self.stack.split_off(from);
                self.push(Value::List(items))?;
            }
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module), self.value(name)) {
                    (&Value::Text(module), &Value::Text(name)) => self.global(module, name)?,
                    _ => return Err("a class whose name is not a text".into()),
                }
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX, BUILD, BINPERSID
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.call(callable, args)?;
            }
            0x92 => {
                let (_named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(class, args)?;
            }
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [key] = self.array()?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => {
                let [key] = self.array()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            other => return Err(format!("opcode 0x{other:02x} is not supported")),
        }
        Ok(None)
    }

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length));
        let slice = end
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or("the pickle is truncated")?;
        self.at += slice.len();
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let slice = self.take(N as u64)?;
        slice
            .try_into()
            .map_err(|_| "the pickle is truncated".into())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("the pickle is truncated")?;
        let line = self.take(length as u64)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name that is not UTF-8".into())
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// The stack's height at the last mark: opcodes do not reach below it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Step<Id> {
        let top = self
            .stack
            .get(self.floor()..)
            .and_then(|stack| stack.last());
        top.copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    fn top_value(&mut self) -> Step<&mut Value<'a>> {
        let top = self.top()?;
        self.values
            .get_mut(top as usize)
            .ok_or_else(|| "the stack is empty".into())
    }

    /// Appends to the list at the top; items of other classes are not kept.
    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        if let Value::List(list) = self.top_value()? {
            list.extend(items);
        }
        Ok(())
    }

    /// Sets keys and values in the dictionary at the top; items of other classes are not kept.
    fn set(&mut self, items: &[Id]) -> Step<()> {
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        if let Value::Dict(dict) = self.top_value()? {
            dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn text(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        // Python 2's strings may hold bytes.
        self.push(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text))
    }

    fn skip(&mut self, length: u64) -> Step<()> {
        self.take(length)?;
        self.push(Value::Other)
    }

    /// A little-endian two's complement number of any length.
    fn long(&mut self, length: u64) -> Step<()> {
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

    fn global(&mut self, module: &'a str, name: &'a str) -> Step<()> {
        if runs_code(module, name) {
            return Err(format!(
                "the file wants to run {module}.{name}; nothing was run"
            ));
        }
        self.push(Value::Global(module, name))
    }

    fn call(&mut self, callable: Id, args: Id) -> Step<()> {
        self.push(match self.value(callable) {
            Value::Global("collections", "OrderedDict") => Value::Dict(Vec::new()),
            _ => Value::Call(callable, args),
        })
    }

    fn memoize(&mut self, key: u32) -> Step<()> {
        if self.memo.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} memo entries"));
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
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

#[cfg(test)]
mod tests;
