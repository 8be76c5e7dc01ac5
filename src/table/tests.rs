use super::*;
use crate::io::vector::Element;

fn vectors(element: Element) -> Vectors {
    Vectors {
        element,
        dim: 256,
        layers: vec![LayerName {
            name: "final_norm".to_string(),
            suffix: "final_norm".to_string(),
        }],
        pool: Some("mean".to_string()),
        causal: true,
    }
}

/// The names and types of some columns as docs/tables.md has them: `name` | type or NULL | meaning.
fn rows<B>(columns: &[Column<B>]) -> Vec<String> {
    let row = |column: &Column<B>| {
        let kind = match column.spec.kind.dim() {
            Some(_) => "fixed-size list".to_string(),
            None => column.spec.kind.name(),
        };
        let null = if column.spec.kind.is_optional() {
            " or NULL"
        } else {
            ""
        };
        let unit = column
            .unit
            .map_or(String::new(), |unit| format!(", {unit}"));
        let name = &column.spec.name;
        let meaning = column.meaning.replace('|', "\\|");
        format!("| `{name}` | {kind}{null}{unit} | {meaning} |")
    };
    columns.iter().map(row).collect()
}

#[test]
fn the_documented_columns_are_those_of_the_code() {
    let docs = include_str!("../../docs/tables.md");
    let outputs = HeadOutputs {
        head: "genes".to_string(),
        names: vec!["<class>".to_string()],
        probabilities: true,
    };
    let values = HeadOutputs {
        probabilities: false,
        names: vec!["<name>".to_string()],
        ..outputs.clone()
    };
    let all = VariantColumns {
        info: vec!["<KEY>".to_string()],
        haplotypes: true,
        reverse: false,
        mean: false,
        four: true,
        quantiles: true,
        embeddings: Some((8, "final_norm".to_string())),
    };
    let half = vectors(Element::F16);
    let none = AllIntervals::default();
    let depth = with_depth(embeddings(RowUnit::Base, &half), RowUnit::Base);
    let documented = [
        ("embeddings", rows(&embeddings(RowUnit::Base, &half))),
        ("predictions", rows(&predictions(true, Some(12)))),
        ("heads", rows(&head_outputs(&outputs, RowUnit::Base))),
        ("bins of heads", rows(&head_outputs(&outputs, RowUnit::Bin))),
        ("bins", rows(&bin_predictions(true))),
        ("samples", rows(&depth)),
        (
            "tokens",
            rows(&with_tokens(embeddings(RowUnit::Base, &half))),
        ),
        (
            "interval_embeddings",
            rows(&interval_embeddings(&none, &half)),
        ),
        (
            "interval_predictions",
            rows(&interval_predictions(&none, true)),
        ),
        ("variants", rows(&variants(&all))),
        ("reads", rows(&reads(true, Some(&outputs), Some(&half)))),
        ("sequences", rows(&sequences(&outputs))),
        ("sequences of values", rows(&sequences(&values))),
        ("read_bases", rows(&read_bases(true))),
        ("pilot", rows(&pilot())),
    ];
    for (table, rows) in documented {
        for row in rows {
            assert!(docs.contains(&row), "docs/tables.md, {table}, lacks\n{row}");
        }
    }
}

#[test]
fn the_footer_describes_every_column() {
    let columns = reads(true, None, Some(&vectors(Element::F16)));
    let embedding = columns
        .iter()
        .find(|column| column.spec.name == "embedding");
    let described = embedding.unwrap().described();
    assert_eq!(described.dim, Some(256));
    assert_eq!(described.dtype, "float16");
    assert_eq!(described.layer.as_deref(), Some("final_norm"));
    assert_eq!(described.pool.as_deref(), Some("mean"));
    for column in &columns {
        assert!(
            !column.described().semantics.is_empty(),
            "{}",
            column.spec.name
        );
    }
    let without = reads(true, None, None);
    assert!(without.iter().all(|column| column.spec.name != "embedding"));
}

#[test]
fn only_predictions_may_be_null_and_binned_rows_have_no_base() {
    for column in predictions(true, Some(12)) {
        let name = column.spec.name.as_str();
        let predicted = PROBABILITIES.iter().any(|(known, ..)| *known == name);
        assert_eq!(column.spec.kind.is_optional(), predicted, "{name}");
    }
    let bins = embeddings(RowUnit::Bin, &vectors(Element::F16));
    assert!(bins.iter().all(|column| column.spec.name != "base"));
}

#[test]
fn numbers_beyond_float16_are_cut_and_flagged() {
    let mut rows = Positions {
        name: "chr".into(),
        starts: vec![0, 1],
        ends: vec![1, 2],
        strands: vec![b'+'; 2],
        bases: vec![0; 2],
        flags: vec![0; 2],
        context: vec![0, 1],
        values: vec![1.0, 2.0, -1e6, 3.0],
        ..Positions::default()
    };
    assert_eq!(rows.clip(), 1);
    assert_eq!(rows.values, [1.0, 2.0, -65504.0, 3.0]);
    assert_eq!(rows.flags, [0, flag::CLIPPED]);
}
