//! The fields of INFO of a VCF or BCF: of each allele its own, where a field has one for each.

use super::{Labels, Place, chosen};
use crate::error::{Error, Result};
use crate::io::input::Input;
use crate::io::variants::{Options, Reader};

pub fn read(input: Input, wanted: &[String]) -> Result<Labels> {
    let mut reader = Reader::new(input, &Options::default())?;
    // Names, and how many values: `A` one for each alternate, `R` one for REF too, `0` a flag.
    let fields = reader.header().fields();
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let chosen = chosen(&names, wanted)?;
    let fields: Vec<&(String, String)> = chosen.iter().map(|&at| &fields[at]).collect();
    let names = fields.iter().map(|(name, _)| name.clone()).collect();
    let mut labels = Labels::new(names, true);
    while let Some(record) = reader.next_record()? {
        let line = String::from_utf8_lossy(reader.line());
        let info = line.trim_end().split('\t').nth(7).unwrap_or_default();
        for (allele, alternate) in record.alternates.iter().enumerate() {
            let place = Place::Variant(&record.chrom, record.pos, &record.reference, alternate);
            let values = fields
                .iter()
                .map(|(name, number)| value(info, name, number, allele));
            let pushed = labels.push(&place, values);
            pushed
                .map_err(|what| Error::input(what).place(format!("record {}", record.index + 1)))?;
        }
    }
    Ok(labels.finished())
}

/// The value of a field for an alternate.
fn value<'a>(info: &'a str, name: &str, number: &str, allele: usize) -> &'a str {
    let field = info.split(';').find_map(|field| {
        let rest = field.strip_prefix(name)?;
        rest.is_empty()
            .then_some("")
            .or_else(|| rest.strip_prefix('='))
    });
    match (field, number) {
        (None, "0") => "0",
        (Some(_), "0") => "1",
        (None, _) => "",
        (Some(values), "A") => values.split(',').nth(allele).unwrap_or_default(),
        (Some(values), "R") => values.split(',').nth(allele + 1).unwrap_or_default(),
        (Some(value), _) => value,
    }
}
