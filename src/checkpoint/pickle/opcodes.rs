//! The opcodes of protocols 2 to 4.

use super::machine::{Machine, OpcodeResult};
use super::{Id, Value};

/// The opcode at the end of a pickle.
const STOP: u8 = b'.';

impl Machine<'_> {
    /// Runs one opcode; at the end of the pickle, returns its value.
    pub fn run_opcode(&mut self) -> OpcodeResult<Option<Id>> {
        let opcode = self.number(1)? as u8;
        if opcode == STOP {
            return self.pop().map(Some);
        }
        let known = self.control(opcode)?
            || self.literal(opcode)?
            || self.container(opcode)?
            || self.object(opcode)?
            || self.remembered(opcode)?;
        if known {
            Ok(None)
        } else {
            Err(format!("opcode 0x{opcode:02x} is not supported"))
        }
    }

    /// The frame of a pickle, and its stack. Like its siblings below, says whether it knows the
    /// opcode.
    fn control(&mut self, opcode: u8) -> OpcodeResult<bool> {
        match opcode {
            // PROTO
            0x80 => match self.number(1)? {
                2..=5 => {}
                other => return Err(format!("protocol {other} is not supported")),
            },
            // FRAME
            0x95 => drop(self.number(8)?),
            // MARK, POP, POP_MARK, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Numbers, texts and bytes.
    fn literal(&mut self, opcode: u8) -> OpcodeResult<bool> {
        match opcode {
            // NONE, NEWTRUE, NEWFALSE, EMPTY_SET
            b'N' | 0x88 | 0x89 | 0x8f => self.push(Value::Other)?,
            // BININT1, BININT2, BININT, LONG1, LONG4, BINFLOAT
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let value = self.number(4)? as u32;
                self.push(Value::Int(value.cast_signed().into()))?;
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                self.number(8)?;
                self.push(Value::Other)?;
            }
            // SHORT_BINUNICODE, SHORT_BINSTRING, BINUNICODE, BINSTRING, BINUNICODE8
            0x8c | b'U' => self.text(1)?,
            b'X' | b'T' => self.text(4)?,
            0x8d => self.text(8)?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8
            b'C' => self.skip(1)?,
            b'B' => self.skip(4)?,
            0x8e => self.skip(8)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tuples, lists, sets and dictionaries.
    fn container(&mut self, opcode: u8) -> OpcodeResult<bool> {
        match opcode {
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
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Classes, calls, and objects that are stored elsewhere.
    fn object(&mut self, opcode: u8) -> OpcodeResult<bool> {
        match opcode {
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
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Values that are needed again.
    fn remembered(&mut self, opcode: u8) -> OpcodeResult<bool> {
        match opcode {
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' => {
                let key = self.number(if opcode == b'q' { 1 } else { 4 })?;
                self.memoize(key as u32)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let key = self.number(if opcode == b'h' { 1 } else { 4 })?;
                self.recall(key as u32)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
