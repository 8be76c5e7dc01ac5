use super::board::AHEAD;
use super::*;
use crate::stream::Position;
use crate::stream::pipeline::Outcome;
use crate::stream::pipeline::{self, Sink, Source, Stage};
use crate::stream::{Mark, Progress, Style};
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sequences of so many steps, each step a number.
struct Steps {
    lengths: Vec<u64>,
    at: (usize, u64),
    bytes: usize,
}

impl Source for Steps {
    type Work = (usize, u64);

    fn next_batch(&mut self) -> Result<Option<Batched<(usize, u64)>>> {
        let work = self.at;
        let Some(&length) = self.lengths.get(work.0) else {
            return Ok(None);
        };
        self.at = if work.1 + 1 == length {
            (work.0 + 1, 0)
        } else {
            (work.0, work.1 + 1)
        };
        let next = Position {
            sequences: self.at.0 as u64,
            bases: self.at.1,
        };
        Ok(Some(Batched {
            work,
            next: Some(next),
            ends: next.bases == 0,
            bytes: self.bytes,
        }))
    }
}

/// A device that carries a sum, and is slow at some sequences.
struct Fake<'a> {
    number: usize,
    sum: u64,
    slow: usize,
    fails: bool,
    aside: &'a AtomicUsize,
}

struct Sum<'a>(usize, u64, &'a AtomicUsize);

impl Outcome for Sum<'_> {
    fn put_aside(self, _: &mut Aside) -> Result<Self> {
        self.2.fetch_add(1, Ordering::Relaxed);
        Ok(self)
    }
}

impl<'a> Stage for Fake<'a> {
    type In = (usize, u64);
    type Out = Sum<'a>;

    fn run(&mut self, (sequence, step): (usize, u64), to: &mut Next<Sum<'a>>) -> Result<()> {
        if step == 0 {
            self.sum = 0;
        }
        if self.fails && sequence > 1 {
            return Err(Error::memory("out of memory"));
        }
        self.sum += 100 * sequence as u64 + step;
        if sequence.is_multiple_of(self.slow) {
            thread::sleep(Duration::from_millis(2));
        }
        to.send(Sum(sequence, self.sum, self.aside))?;
        to.done(1, "")
    }

    fn save(&self, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn Read) -> Result<()> {
        Ok(())
    }
}

impl Computation for Fake<'_> {
    fn place(&self) -> String {
        format!("GPU {}", self.number)
    }

    fn scratch(&self) -> &Path {
        Path::new(".")
    }
}

/// What came, in its order; may be slow, too.
struct Rows<'a>(Duration, PhantomData<&'a ()>);

impl<'a> Stage for Rows<'a> {
    type In = Sum<'a>;
    type Out = (usize, u64);

    fn run(&mut self, sum: Sum<'a>, to: &mut Next<(usize, u64)>) -> Result<()> {
        thread::sleep(self.0);
        to.send((sum.0, sum.1))
    }

    fn save(&self, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn Read) -> Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Table(Vec<(usize, u64)>);

impl Sink for Table {
    type In = (usize, u64);

    fn write(&mut self, row: (usize, u64)) -> Result<()> {
        self.0.push(row);
        Ok(())
    }

    fn checkpoint(&mut self, _: &mut Mark) -> Result<()> {
        Ok(())
    }
}

/// The rows of a run on so many devices.
fn run(
    devices: usize,
    (slow, fails): (usize, bool),
    lengths: &[u64],
    bytes: usize,
    rows: Duration,
) -> Result<Vec<(usize, u64)>> {
    let aside = AtomicUsize::new(0);
    let mut fakes: Vec<_> = (0..devices)
        .map(|number| Fake {
            number,
            sum: 0,
            slow,
            fails: fails && number == 1,
            aside: &aside,
        })
        .collect();
    let mut steps = Steps {
        lengths: lengths.to_vec(),
        at: (0, 0),
        bytes,
    };
    let mut table = Table::default();
    let totals = pipeline::run(
        &mut steps,
        &mut fakes,
        &mut Rows(rows, PhantomData),
        &mut table,
        None,
        &mut Progress::new(Style::None, None),
    )?;
    assert_eq!(totals.bases, lengths.iter().sum::<u64>());
    Ok(table.0)
}

#[test]
fn several_devices_give_the_rows_of_one_in_their_order() {
    let lengths: Vec<u64> = (0..16).map(|i| 1 + i * 7 % 11).collect();
    let one = run(1, (1000, false), &lengths, 1, Duration::ZERO).unwrap();
    assert_eq!(one.len(), lengths.iter().sum::<u64>() as usize);
    for devices in [2, 3] {
        for slow in [1, 2, 3, 1000] {
            // Steps that are as large as all that may wait, too.
            for bytes in [1, AHEAD / 2, 2 * AHEAD] {
                for rows in [Duration::ZERO, Duration::from_micros(300)] {
                    let found = run(devices, (slow, false), &lengths, bytes, rows).unwrap();
                    assert!(found == one, "{devices} devices, {slow}, {bytes}");
                }
            }
        }
    }
}

#[test]
fn what_is_computed_too_early_is_put_aside_if_the_rows_wait_and_else_the_device_waits() {
    let aside = AtomicUsize::new(0);
    let board = Board::default();
    let (first, second) = (board.open(), board.open());
    board.put(second, Sum(1, 10, &aside)).unwrap();
    thread::scope(|scope| {
        let putting = scope.spawn(|| {
            board
                .put_aside(second, &mut Aside::new(Path::new(".")))
                .unwrap()
        });
        thread::sleep(Duration::from_millis(50));
        assert_eq!(aside.load(Ordering::Relaxed), 0);
        let rows = scope.spawn(|| [board.next().unwrap(), board.next().unwrap()]);
        putting.join().unwrap();
        assert_eq!(aside.load(Ordering::Relaxed), 1);
        board.end(first, None);
        let rows = rows.join().unwrap();
        assert!(matches!(rows[0], Some(Merged::End(None))));
        assert!(matches!(rows[1], Some(Merged::Outcome(Sum(1, 10, _)))));
    });
    // Its turn has come: nothing is put aside any more.
    board.put(second, Sum(1, 11, &aside)).unwrap();
    board
        .put_aside(second, &mut Aside::new(Path::new(".")))
        .unwrap();
    assert_eq!(aside.load(Ordering::Relaxed), 1);
}

#[test]
fn a_device_that_fails_ends_the_run_with_its_number() {
    let error = run(3, (2, true), &[3; 50], 1, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    assert_eq!(error.to_string(), "GPU 1: out of memory");
}
