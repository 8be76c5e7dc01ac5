use super::*;
use crate::io::atomic::failing_from;
use crate::io::vector::Element;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int64Type};
use half::f16;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Encoding;
use std::fs::File;
use std::path::Path;

const DIM: usize = 5;

fn columns() -> Vec<ColumnSpec> {
    let vector = |element| ColumnKind::Vector { element, dim: DIM };
    vec![
        ColumnSpec::new("chrom", ColumnKind::Words),
        ColumnSpec::new("start", ColumnKind::I64),
        ColumnSpec::new("flags", ColumnKind::U8),
        ColumnSpec::new("context_left", ColumnKind::I32),
        ColumnSpec::new("score", ColumnKind::F32),
        ColumnSpec::new("logp", ColumnKind::OptionalF32),
        ColumnSpec::new("half", vector(Element::F16)),
        ColumnSpec::new("single", vector(Element::F32)),
    ]
}

fn number(i: usize) -> f32 {
    f16::from_f32((i as f32 * 0.37).sin() * 8.0).to_f32()
}

fn batch(chrom: &str, from: usize, rows: usize) -> Vec<Values> {
    let numbers = || (from * DIM..(from + rows) * DIM).map(number);
    let at = from..from + rows;
    vec![
        Values::word(chrom, rows),
        Values::I64(at.clone().map(|i| i as i64).collect()),
        Values::U8(at.clone().map(|i| i as u8).collect()),
        Values::I32(at.clone().map(|i| i as i32).collect()),
        Values::F32(at.clone().map(number).collect()),
        Values::OptionalF32(
            at.map(|i| (!i.is_multiple_of(7)).then(|| number(i)))
                .collect(),
        ),
        Values::F16Vectors(numbers().map(f16::from_f32).collect()),
        Values::F32Vectors(numbers().collect()),
    ]
}

/// Two groups in uneven batches; the second group's vectors fill several pages.
fn write(path: &Path, force: bool, rows: usize) -> Result<Receipt> {
    let mut table = TableWriter::create(
        AtomicFile::create(path, force)?,
        &columns(),
        Compression::default(),
    )?;
    table.write(batch("chr2", 0, 10))?;
    table.close_group()?;
    let half = 10 + (rows - 10) / 2;
    table.write(batch("chr10", 10, half - 10))?;
    table.write(batch("chr10", half, rows - half))?;
    table.finish(&serde_json::json!({"version": "1.0.0", "complete": true}))
}

#[test]
fn every_value_is_read_back_and_page_index_ranges_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let rows = 150_000;
    let receipt = write(&path, false, rows).unwrap();
    assert_eq!(receipt.rows, rows as u64);
    assert_eq!(receipt.bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(
        receipt.sha256,
        Some(crate::io::sha256::digest(&path).unwrap())
    );

    let options = || {
        let page_index = parquet::file::metadata::PageIndexPolicy::Required;
        ArrowReaderOptions::new().with_page_index_policy(page_index)
    };
    let open = || {
        let file = File::open(&path).unwrap();
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options()).unwrap()
    };
    let reader = open();
    assert_eq!(reader.metadata().num_row_groups(), 2);
    let declared: Vec<Field> = columns().iter().map(ColumnSpec::field).collect();
    let read: Vec<Field> = reader
        .schema()
        .fields()
        .iter()
        .map(|f| (**f).clone())
        .collect();
    assert_eq!(read, declared);

    let check = |builder: ParquetRecordBatchReaderBuilder<File>, mut at: usize| {
        let first = at;
        for batch in builder.build().unwrap() {
            let batch = batch.unwrap();
            let starts = batch.column(1).as_primitive::<Int64Type>();
            let logp = batch.column(5).as_primitive::<Float32Type>();
            let halves = batch.column(6).as_fixed_size_list();
            let singles = batch.column(7).as_fixed_size_list();
            let halves = halves.values().as_primitive::<Float16Type>().values();
            let singles = singles.values().as_primitive::<Float32Type>().values();
            for row in 0..batch.num_rows() {
                assert_eq!(starts.value(row), at as i64);
                assert_eq!(
                    logp.iter().nth(row).unwrap().is_none(),
                    at.is_multiple_of(7),
                    "{at}"
                );
                for d in 0..DIM {
                    assert_eq!(halves[row * DIM + d].to_f32(), number(at * DIM + d));
                    assert_eq!(singles[row * DIM + d], number(at * DIM + d));
                }
                at += 1;
            }
        }
        at - first
    };
    assert_eq!(check(reader, 0), rows);
    let tail = open()
        .with_offset(120_000)
        .with_limit(9_000)
        .with_batch_size(1_000);
    assert_eq!(check(tail, 120_000), 9_000);
}

#[test]
fn encodings_statistics_and_metadata_are_as_documented() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    write(&path, false, 1_000).unwrap();
    let file = File::open(&path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let about = reader.metadata().file_metadata();
    let created_by = about.created_by().unwrap();
    assert_eq!(
        created_by,
        format!("crocuta version {}", env!("CARGO_PKG_VERSION"))
    );
    let pairs = about.key_value_metadata().unwrap();
    let value = |key: &str| pairs.iter().find(|kv| kv.key == key).unwrap().value.clone();
    let footer: serde_json::Value = serde_json::from_str(&value("crocuta").unwrap()).unwrap();
    assert_eq!(footer["complete"], true);
    assert_eq!(value(ZERO_BASED_KEY).unwrap(), "true");
    assert!(value("ARROW:schema").is_some());
    let group = reader.metadata().row_group(1);
    assert_eq!(group.sorting_columns(), None);
    let has = |column: usize, encoding| {
        group
            .column(column)
            .encodings()
            .any(|found| found == encoding)
    };
    assert!(has(0, Encoding::RLE_DICTIONARY));
    assert!(has(1, Encoding::DELTA_BINARY_PACKED));
    assert!(!has(4, Encoding::RLE_DICTIONARY));
    assert!(has(6, Encoding::PLAIN) && !has(6, Encoding::BYTE_STREAM_SPLIT));
    assert!(has(7, Encoding::BYTE_STREAM_SPLIT));
    assert!(group.column(1).column_index_offset().is_some());
    let chrom = group.column(0).statistics().unwrap();
    assert_eq!(chrom.min_bytes_opt(), Some(&b"chr10"[..]));
}

#[test]
fn batches_do_not_change_the_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let whole = |sizes: &[usize]| {
        let path = directory.path().join(format!("{sizes:?}"));
        let mut table = TableWriter::create(
            AtomicFile::create(&path, false).unwrap(),
            &columns(),
            Compression::default(),
        )
        .unwrap();
        let mut from = 0;
        for size in sizes.iter().cycle() {
            let here = (*size).min(60_000 - from);
            table.write(batch("chr1", from, here)).unwrap();
            from += here;
            if from == 60_000 {
                break;
            }
        }
        table.finish(&serde_json::Value::Null).unwrap()
    };
    let expected = whole(&[60_000]);
    for sizes in [&[8192][..], &[1000, 1, 30_000, 77]] {
        assert_eq!(whole(sizes), expected, "{sizes:?}");
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let a = write(&at("a"), false, 5_000).unwrap();
    let b = write(&at("b"), false, 5_000).unwrap();
    assert_eq!(a, b);
}

#[test]
fn a_failure_at_any_system_call_is_an_io_error_and_leaves_the_old_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let mut n = 0;
    loop {
        std::fs::write(&path, "old").unwrap();
        let result = failing_from(n, || write(&path, true, 5_000));
        let Err(error) = result else { break };
        assert_eq!(error.kind(), Kind::Io, "{n}: {error}");
        assert!(error.to_string().contains("No space left"), "{n}: {error}");
        let after = std::fs::read(&path).unwrap();
        assert!(after == b"old" || after.ends_with(b"PAR1"), "{n}");
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "{n}"
        );
        n += 1;
    }
    // What is written, the file to disk, its name, the directory to disk.
    assert!(n >= 4, "only {n} calls");
}

#[test]
fn a_full_disk_is_an_io_error() {
    // A table of one block, and one that a thread of its own writes.
    for rows in [5_000, 150_000] {
        let error = write(Path::new("/dev/full"), false, rows).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}

#[test]
fn a_large_table_that_is_not_finished_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let target = AtomicFile::create(&directory.path().join("t"), false).unwrap();
    let mut table = TableWriter::create(target, &columns(), Compression::None).unwrap();
    for group in 0..6 {
        table.write(batch("chr1", group * 40_000, 40_000)).unwrap();
        table.close_group().unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(table);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn slices_of_arrays_are_written_as_the_rows_that_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let whole = |cuts: &[usize]| {
        let path = directory.path().join(format!("{cuts:?}"));
        let target = AtomicFile::create(&path, false).unwrap();
        let mut table = TableWriter::create(target, &columns(), Compression::default()).unwrap();
        let arrays = arrays(&columns(), batch("chr1", 0, 3000)).unwrap();
        let mut from = 0;
        for to in cuts.iter().copied().chain([3000]) {
            let rows: Vec<_> = arrays
                .iter()
                .map(|array| array.slice(from, to - from))
                .collect();
            table.write_arrays(&rows).unwrap();
            from = to;
        }
        table.finish(&serde_json::Value::Null).unwrap()
    };
    let expected = whole(&[]);
    assert_eq!(expected.rows, 3000);
    for cuts in [&[1][..], &[7, 1000, 2999]] {
        assert_eq!(whole(cuts), expected, "{cuts:?}");
    }
}

#[test]
fn values_that_do_not_fit_the_columns_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let target = AtomicFile::create(&directory.path().join("t"), false).unwrap();
    let mut table = TableWriter::create(target, &columns(), Compression::default()).unwrap();
    let mut short = batch("chr1", 0, 4);
    short[6] = Values::F16Vectors(vec![f16::ZERO; 4 * DIM - 1]);
    let mut swapped = batch("chr1", 0, 4);
    swapped.swap(0, 1);
    for wrong in [short, swapped, Vec::new()] {
        assert_eq!(table.write(wrong).unwrap_err().kind(), Kind::Internal);
    }
}

#[test]
fn a_table_without_rows_is_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let target = AtomicFile::create(&path, false).unwrap();
    let table = TableWriter::create(target, &columns(), Compression::default()).unwrap();
    assert_eq!(table.finish(&serde_json::json!({})).unwrap().rows, 0);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.schema().fields().len(), 8);
}

#[test]
fn a_table_of_copied_groups_is_the_table_written_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let columns = [
        columns(),
        vec![
            ColumnSpec::new("read_name", ColumnKind::Text),
            ColumnSpec::new("double", ColumnKind::OptionalF64),
            ColumnSpec::new("count", ColumnKind::OptionalI64),
            ColumnSpec::new("bits", ColumnKind::U16),
        ],
    ]
    .concat();
    let create = |name: &str| {
        TableWriter::create(
            AtomicFile::create(&at(name), false).unwrap(),
            &columns,
            Compression::default(),
        )
        .unwrap()
    };
    let group = |table: &mut TableWriter, start: i64| {
        let mut values = batch("chr1", start as usize, 4);
        values.push(Values::Text(
            (0..4).map(|i| Some(format!("read{i}"))).collect(),
        ));
        values.push(Values::OptionalF64(vec![
            Some(-1.5),
            None,
            Some(0.0),
            Some(2.5),
        ]));
        values.push(Values::OptionalI64(vec![
            Some(-7),
            None,
            Some(start),
            Some(9),
        ]));
        values.push(Values::U16(vec![1, 2, 40_000, 4]));
        table.write(values).unwrap();
        table.close_group().unwrap();
    };
    let mut whole = create("whole");
    group(&mut whole, 0);
    group(&mut whole, 40);
    whole.finish(&serde_json::json!({"a": 1})).unwrap();
    for (name, start) in [("part-1", 0), ("part-2", 40)] {
        let mut part = create(name);
        group(&mut part, start);
        part.finish(&serde_json::Value::Null).unwrap();
    }
    let mut copied = create("copied");
    copied.append(&at("part-1")).unwrap();
    copied.append(&at("part-2")).unwrap();
    copied.finish(&serde_json::json!({"a": 1})).unwrap();
    let read = |name: &str| std::fs::read(at(name)).unwrap();
    assert!(read("whole") == read("copied"), "other bytes");
}

#[test]
fn slices_of_columns_of_many_words_hold_only_their_own() {
    // Rows of two columns of words in turn: with all words each, 20,000 slices would hold 10 GB.
    let many = 10_000;
    let column = |side: &str| -> ArrayRef {
        let words = (0..many).map(|i| format!("{side}{i:09}"));
        let values = Arc::new(arrow_array::StringArray::from_iter_values(words));
        let keys = arrow_array::Int32Array::from_iter_values(0..many);
        Arc::new(arrow_array::DictionaryArray::try_new(keys, values).unwrap())
    };
    let sides = [column("left"), column("right")];
    let mut kept = 0;
    for row in 0..many as usize {
        for side in &sides {
            kept += without_other_words(&side.slice(row, 1))
                .unwrap()
                .get_array_memory_size();
        }
    }
    assert!(kept < 20_000_000, "{kept}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let columns = [ColumnSpec::new("chrom", ColumnKind::Words)];
    let target = AtomicFile::create(&path, false).unwrap();
    let mut table = TableWriter::create(target, &columns, Compression::default()).unwrap();
    for row in 0..many as usize {
        for side in &sides {
            table.write_arrays(&[side.slice(row, 1)]).unwrap();
        }
    }
    table.finish(&serde_json::json!({})).unwrap();
    let file = File::open(&path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let batch = reader
        .with_batch_size(30_000)
        .build()
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let chrom = batch
        .column(0)
        .as_dictionary::<arrow_array::types::Int32Type>();
    let words = chrom.downcast_dict::<arrow_array::StringArray>().unwrap();
    for (row, word) in words.into_iter().enumerate() {
        let side = ["left", "right"][row % 2];
        assert_eq!(word.unwrap(), format!("{side}{:09}", row / 2));
    }
}

#[test]
fn threads_do_not_change_the_bytes_however_columns_are_compressed() {
    let directory = tempfile::tempdir().unwrap();
    for compression in ["zstd", "zstd:7", "lz4", "none"] {
        let whole = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let path = directory.path().join(format!("{compression}-{threads}"));
            // `write` and `close_group` on a thread of the pool, and on one that is none.
            let write = || {
                let file = AtomicFile::create(&path, false).unwrap();
                let form = compression.parse().unwrap();
                let mut table = TableWriter::create(file, &columns(), form).unwrap();
                for group in 0..7 {
                    table.write(batch("chr1", group * 3000, 1999)).unwrap();
                    table
                        .write(batch("chr1", group * 3000 + 1999, 1001))
                        .unwrap();
                    table.close_group().unwrap();
                }
                table.finish(&serde_json::Value::Null).unwrap()
            };
            pool.build().unwrap().install(write)
        };
        let expected = whole(1);
        assert_eq!(expected.rows, 21_000);
        for threads in [2, 7] {
            assert_eq!(whole(threads), expected, "{compression}, {threads}");
        }
        let path = directory.path().join("outside");
        let file = AtomicFile::create(&path, true).unwrap();
        let mut table =
            TableWriter::create(file, &columns(), compression.parse().unwrap()).unwrap();
        for group in 0..7 {
            table.write(batch("chr1", group * 3000, 3000)).unwrap();
            table.close_group().unwrap();
        }
        let outside = table.finish(&serde_json::Value::Null).unwrap();
        assert_eq!(outside, expected, "{compression}");
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let codec = |column: usize| reader.metadata().row_group(0).column(column).compression();
        let named = |column| codec(column).to_string().to_lowercase();
        let said = match compression {
            "none" => "uncompressed",
            other => other.split(':').next().unwrap(),
        };
        assert!(
            named(1).starts_with(said) && named(6).starts_with(said),
            "{}",
            named(6)
        );
    }
}

#[test]
fn what_is_no_method_of_compression_is_refused() {
    for (text, said) in [
        ("zstd:0", "from 1 to 22"),
        ("zstd:23", "from 1 to 22"),
        ("zstd:", "from 1 to 22"),
        ("gzip", "expected zstd"),
        ("lz4:3", "expected zstd"),
        ("", "expected zstd"),
    ] {
        let error = text.parse::<Compression>().unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    for text in ["zstd", "zstd:1", "zstd:22", "lz4", "none"] {
        assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
    }
}
