use super::*;

fn listing(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names
}

fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<Written> {
    let mut file = AtomicFile::create(path, force)?;
    for piece in bytes.chunks(3) {
        file.write_all(piece).map_err(|e| Error::io(path, &e))?;
    }
    file.finish()
}

#[test]
fn a_finished_file_holds_what_was_written_and_nothing_stands_there_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let mut file = AtomicFile::create(&path, false).unwrap();
    file.write_all(b"abc").unwrap();
    assert!(!path.exists());
    let written = file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    assert_eq!(written.bytes, 3);
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(written.sha256.as_deref(), Some(sum));
    assert_eq!(listing(directory.path()), ["out"]);
}

#[test]
fn a_failure_at_any_system_call_leaves_the_old_file_and_no_temporary() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    for before in [None, Some(b"old")] {
        let mut n = 0;
        loop {
            let _ = fs::remove_file(&path);
            if let Some(old) = before {
                fs::write(&path, old).unwrap();
            }
            let result = failing_from(n, || write(&path, before.is_some(), b"0123456789"));
            let now = fs::read(&path).ok();
            let Err(error) = result else { break };
            assert_eq!(error.kind(), Kind::Io);
            assert!(error.to_string().contains("No space left"), "{error}");
            // Only the directory's fsync comes after the rename: the file is then complete.
            let complete = now.as_deref() == Some(b"0123456789");
            assert!(
                now.as_deref() == before.map(|b| &b[..]) || (complete && n == 6),
                "{n}"
            );
            assert_eq!(listing(directory.path()).len(), usize::from(now.is_some()));
            n += 1;
        }
        assert_eq!(n, 7, "4 writes, fsync, rename, fsync of the directory");
    }
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "old").unwrap();
    let error = AtomicFile::create(&path, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    write(&path, true, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(listing(directory.path()), ["out"]);
}

#[test]
fn a_file_that_appears_during_the_run_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let file = AtomicFile::create(&path, false).unwrap();
    fs::write(&path, "other").unwrap();
    assert_eq!(file.finish().unwrap_err().kind(), Kind::Usage);
    assert_eq!(fs::read(&path).unwrap(), b"other");
    assert_eq!(listing(directory.path()), ["out"]);
}

#[test]
fn directories_and_dangling_links_are_usage_errors_and_a_missing_directory_is_io() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::os::unix::fs::symlink("nothing", at("link")).unwrap();
    let kind = |path: &Path| AtomicFile::create(path, true).unwrap_err().kind();
    assert_eq!(kind(directory.path()), Kind::Usage);
    assert_eq!(kind(&at("link")), Kind::Usage);
    assert_eq!(kind(&at("new/")), Kind::Usage);
    assert_eq!(kind(&at("missing/out")), Kind::Io);
    assert_eq!(listing(directory.path()), ["link"]);
}

#[test]
fn a_link_stays_and_the_file_it_points_to_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    assert_eq!(
        AtomicFile::create(&link, false).unwrap_err().kind(),
        Kind::Usage
    );
    write(&link, true, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"new");
}

#[test]
fn devices_are_written_in_place_and_a_full_one_is_an_io_error() {
    write(Path::new("/dev/null"), false, b"abc").unwrap();
    assert!(is_stream(&fs::metadata("/dev/null").unwrap()));
    let error = write(Path::new("/dev/full"), false, b"a").unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[test]
fn a_second_writer_of_the_same_output_is_told_that_it_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let first = AtomicFile::create(&path, false).unwrap();
    let error = AtomicFile::create(&path, true).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("in use"), "{error}");
    first.finish().unwrap();
}

#[test]
fn what_a_killed_run_left_is_removed_and_files_of_other_outputs_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let dead = i32::MAX; // above every kernel's pid_max
    for name in [".out", ".other"] {
        let name = format!("{name}.tmp-{dead}-0123abcd");
        fs::write(directory.path().join(name), "x").unwrap();
    }
    // In a container each run may have the same id.
    for alive in [1, std::process::id()] {
        let name = format!(".out.tmp-{alive}-0123abcd");
        fs::write(directory.path().join(name), "x").unwrap();
    }
    write(&directory.path().join("out"), false, b"abc").unwrap();
    let other = format!(".other.tmp-{dead}-0123abcd");
    assert_eq!(listing(directory.path()), [other.as_str(), "out"]);
}

#[test]
fn an_output_that_waits_for_its_set_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let set = OutputSet::default();
    set.create(&path, false).unwrap().finish().unwrap();
    let error = AtomicFile::create(&path, false).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    set.commit().unwrap();
    assert_eq!(listing(directory.path()), ["out"]);
}

#[test]
fn outputs_of_a_set_are_summed_if_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let set = OutputSet::default();
    let sum = |name: &str| {
        let mut file = set.create(&directory.path().join(name), false).unwrap();
        file.write_all(b"ab").unwrap();
        file.write_block(&Arc::new(b"c".to_vec())).unwrap();
        file.finish().unwrap().sha256
    };
    assert_eq!(sum("a"), None);
    set.sum();
    let summed = sum("b").unwrap();
    assert_eq!(summed, crate::io::sha256::digest_of(b"abc"));
    set.commit().unwrap();
    assert_eq!(listing(directory.path()), ["a", "b"]);
}

#[test]
fn a_set_gets_all_of_its_names_or_none() {
    let names = ["one", "two", "three"];
    let files = |directory: &Path, force| -> Result<OutputSet> {
        let set = OutputSet::default();
        for name in names {
            let mut file = set.create(&directory.join(name), force)?;
            file.write_all(b"new").unwrap();
            file.finish()?;
        }
        Ok(set)
    };
    let contents = |directory: &Path| {
        let read = |name: &&str| fs::read_to_string(directory.join(name)).ok();
        names.iter().map(read).collect::<Vec<_>>()
    };
    for old in [None, Some("old")] {
        let old: Vec<Option<String>> = vec![old.map(str::to_string); 3];
        let mut failed = 0;
        for n in 0.. {
            let directory = tempfile::tempdir().unwrap();
            for (name, old) in names.iter().zip(&old) {
                if let Some(old) = old {
                    fs::write(directory.path().join(name), old).unwrap();
                }
            }
            let set = files(directory.path(), true).unwrap();
            assert_eq!(contents(directory.path()), old, "nothing before the commit");
            // The directory is synchronised when all have their names.
            let renames = names.len();
            match failing_from(n, || set.commit()) {
                Ok(()) => {
                    assert!(n >= renames);
                    break;
                }
                Err(_) if n >= renames => continue,
                Err(error) => assert_eq!(error.kind(), Kind::Io),
            }
            drop(set);
            failed += 1;
            assert_eq!(contents(directory.path()), old, "after {n} calls");
            assert_eq!(
                listing(directory.path()).len(),
                old.iter().flatten().count()
            );
        }
        assert_eq!(failed, names.len());
    }
}

#[test]
fn an_output_that_is_declared_and_not_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let set = OutputSet::default();
    let file = set.create(&directory.path().join("a"), false).unwrap();
    file.finish().unwrap();
    drop(set.create(&directory.path().join("b"), false).unwrap());
    assert_eq!(set.commit().unwrap_err().kind(), Kind::Internal);
    assert!(listing(directory.path()).iter().all(|name| name != "a"));
    let set = OutputSet::default();
    let file = set.create(&directory.path().join("b"), false).unwrap();
    file.withdraw();
    set.commit().unwrap();
}

#[test]
fn a_file_that_appeared_keeps_the_others_from_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let set = OutputSet::default();
    for name in ["a", "b"] {
        let mut file = set.create(&at(name), false).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
    }
    fs::write(at("b"), "appeared").unwrap();
    let error = set.commit().unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{error}");
    assert!(!at("a").exists());
    assert_eq!(fs::read_to_string(at("b")).unwrap(), "appeared");
}
