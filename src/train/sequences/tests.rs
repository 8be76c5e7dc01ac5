use super::*;

fn row(codes: &[u8], label: &str) -> Labelled {
    Labelled {
        codes: codes.to_vec(),
        label: label.to_string(),
    }
}

#[test]
fn classes_are_in_the_order_of_their_numbers() {
    let rows = ["10", "9", "-1", "9"].map(|label| row(&[0], label));
    let task = task(&rows, false, Reading::Mean(None)).unwrap();
    assert_eq!(task.outputs, ["-1", "9", "10"]);
    let (examples, _) = examples(&task, rows.to_vec(), &[]).unwrap();
    let targets: Vec<f64> = examples.iter().map(|example| example.target).collect();
    assert_eq!(targets, [2.0, 1.0, 0.0, 1.0]);
}

#[test]
fn wrong_labels_are_errors() {
    let two = ["a", "b"].map(|label| row(&[0], label));
    assert!(task(&two[..1], false, Reading::Mean(None)).is_err());
    let classes = task(&two, false, Reading::Mean(None)).unwrap();
    assert!(examples(&classes, vec![row(&[0], "c")], &[]).is_err());
    let values = task(&two, true, Reading::Mean(None)).unwrap();
    assert!(examples(&values, two.to_vec(), &[]).is_err());
    assert!(examples(&values, vec![row(&[0], "-1.5e3")], &[]).is_ok());
}

#[test]
fn copies_of_held_out_sequences_are_left_out_on_either_strand() {
    let rows = [row(&[0, 1], "a"), row(&[2, 3], "b"), row(&[3, 3], "a")];
    let task = task(&rows, false, Reading::Mean(None)).unwrap();
    let held = [row(&[0, 0], "a"), row(&[2, 3], "a")];
    let (kept, left_out) = examples(&task, rows.to_vec(), &[&held]).unwrap();
    assert_eq!((kept.len(), left_out), (0, 3));
    let (kept, left_out) = examples(&task, rows.to_vec(), &[&held[..1]]).unwrap();
    assert_eq!((kept.len(), left_out), (2, 1));
}

#[test]
fn an_epoch_reads_every_sequence_once_and_goes_on_where_it_was() {
    let rows: Vec<Labelled> = (0..10).map(|i| row(&[0; 3], &i.to_string())).collect();
    let task = task(&rows, false, Reading::Mean(None)).unwrap();
    let (training, _) = examples(&task, rows, &[]).unwrap();
    let new = || {
        Sequences::new(
            task.clone(),
            [training.clone(), vec![], vec![]],
            4,
            (true, 5),
            Select::Loss,
        )
        .unwrap()
    };
    let mut sequences = new();
    let mut read: Vec<f64> = Vec::new();
    for size in [4, 4, 2] {
        let batch = sequences.next_batch();
        assert_eq!(batch.len(), size);
        read.extend(batch.iter().map(|example| example.target));
    }
    read.sort_by(f64::total_cmp);
    assert_eq!(read, (0..10).map(f64::from).collect::<Vec<_>>());
    sequences.next_batch();
    let mut other = new();
    other.restore(&sequences.save().unwrap()).unwrap();
    let next = sequences.next_batch();
    assert_eq!(other.next_batch(), next);
}
