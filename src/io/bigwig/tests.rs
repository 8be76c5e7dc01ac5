use super::*;

/// Writes tracks of (contig, length, first position, values), and gives the file.
fn written(tracks: &[(&str, u64, u64, Vec<f32>)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bw");
    let target = AtomicFile::create(&path, false).unwrap();
    let mut writer = Writer::create(target, 1, dir.path()).unwrap();
    for (contig, length, first, values) in tracks {
        writer.begin(contig).unwrap();
        for (i, value) in (*first..).zip(values) {
            writer.push(i, i + 1, *value).unwrap();
        }
        writer.length(contig, *length);
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn read_back(bytes: &[u8]) -> Result<Vec<(String, u64, f32)>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bw");
    std::fs::write(&path, bytes).unwrap();
    let records = read(&path)?.into_iter();
    Ok(records
        .map(|(region, x)| (region.contig, region.start, x))
        .collect())
}

#[test]
fn values_are_read_back_whatever_their_number() {
    for count in [0u64, 1, 1023, 1024, 1025, 300_000] {
        let values: Vec<f32> = (0..count)
            .map(|i| if i % 500 == 7 { f32::NAN } else { i as f32 })
            .collect();
        let tracks = [("b", count + 10, 5, values.clone()), ("a", 9, 0, vec![2.5])];
        let mut expected: Vec<(String, u64, f32)> =
            (5..).zip(values).map(|(i, x)| ("b".into(), i, x)).collect();
        expected.push(("a".into(), 0, 2.5));
        expected.retain(|(_, _, x)| !x.is_nan());
        assert!(read_back(&written(&tracks)).unwrap() == expected, "{count}");
    }
}

#[test]
fn many_contigs_have_a_tree_of_several_levels() {
    let names: Vec<String> = (0..1000).map(|i| format!("contig{i}")).collect();
    let tracks: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), 3, 1, vec![1.0, 2.0]))
        .collect();
    let found = read_back(&written(&tracks)).unwrap();
    let expected = names
        .iter()
        .flat_map(|name| [(name.clone(), 1, 1.0), (name.clone(), 2, 2.0)]);
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_cut_or_changed_is_an_error_or_reads_and_never_a_panic() {
    let bytes = written(&[("c", 3000, 0, (0..3000).map(|i| i as f32).collect())]);
    for len in (0..bytes.len() - 4).step_by(97) {
        assert!(read_back(&bytes[..len]).is_err(), "{len}");
    }
    for i in (0..200).chain((200..bytes.len()).step_by(13)) {
        let mut changed = bytes.clone();
        changed[i] ^= 0x81;
        let _ = read_back(&changed);
    }
    let error = read_back(b">c\nACGT").unwrap_err().to_string();
    assert!(error.contains("x.bw: byte 0: not a bigWig file"), "{error}");
}
