//! Fields of INFO, by what the header says of their numbers.

use super::Header;
use super::header::{structured, trim_end};
use crate::error::{Error, Result};

/// Some fields of INFO.
#[derive(Clone, Debug, Default)]
pub struct InfoFields(Vec<(String, Each)>);

/// What a field has a value for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Each {
    Record,
    Alternate,
    /// REF and every alternate.
    Allele,
}

impl InfoFields {
    /// Fields of these names.
    ///
    /// # Errors
    /// Usage: the header does not declare one.
    pub fn find(header: &Header, names: &[String]) -> Result<Self> {
        let mut declared = Vec::new();
        for line in header.lines() {
            let fields = structured(trim_end(line), "INFO").unwrap_or_default();
            let value = |key| fields.iter().find(|(name, _)| name == key);
            let each = match value("Number").map(|(_, number)| number.as_str()) {
                Some("A") => Each::Alternate,
                Some("R") => Each::Allele,
                _ => Each::Record,
            };
            declared.extend(value("ID").map(|(_, name)| (name.clone(), each)));
        }
        let find = |name: &String| {
            let found = declared.iter().find(|(known, _)| known == name);
            found.cloned().ok_or_else(|| {
                let known: Vec<_> = declared.iter().map(|(name, _)| name.as_str()).collect();
                let what = format!("the header declares no INFO field {name}");
                Error::usage(what).todo(format!("it declares: {}", known.join(", ")))
            })
        };
        names.iter().map(find).collect::<Result<_>>().map(Self)
    }

    /// The fields' values for an alternate, from 0, of a line; 1 for a flag that is set.
    pub fn of(&self, line: &[u8], alternate: usize) -> Vec<Option<String>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut columns = trim_end(line).split(|&byte| byte == b'\t');
        let info = String::from_utf8_lossy(columns.nth(7).unwrap_or_default());
        let value = |(name, each): &(String, Each)| {
            let entry = info.split(';').find_map(|entry| {
                let (key, value) = entry.split_once('=').unwrap_or((entry, "1"));
                (key == name).then_some(value)
            })?;
            let value = match each {
                Each::Record => entry,
                Each::Alternate => entry.split(',').nth(alternate)?,
                Each::Allele => entry.split(',').nth(alternate + 1)?,
            };
            (value != "." && !value.is_empty()).then(|| value.to_string())
        };
        self.0.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_allele() {
        let mut header = Header::default();
        for line in [
            "##fileformat=VCFv4.2\n",
            "##INFO=<ID=AF,Number=A,Type=Float,Description=\"\">\n",
            "##INFO=<ID=AD,Number=R,Type=Integer,Description=\"\">\n",
            "##INFO=<ID=CLNSIG,Number=.,Type=String,Description=\"\">\n",
            "##INFO=<ID=DB,Number=0,Type=Flag,Description=\"\">\n",
        ] {
            assert!(header.push(line.as_bytes()).unwrap());
        }
        let names = ["DB", "CLNSIG", "AF", "AD"].map(str::to_string);
        let fields = InfoFields::find(&header, &names).unwrap();
        let of = |info: &str, alternate| {
            let line = format!("1\t5\t.\tA\tC,G\t.\t.\t{info}\n");
            let found = fields.of(line.as_bytes(), alternate);
            let shown = found.into_iter().map(|x| x.unwrap_or("-".into()));
            shown.collect::<Vec<_>>().join(" ")
        };
        let info = "AF=0.1,.;CLNSIG=Benign,_other;AD=7,8,9;DB";
        assert_eq!(of(info, 0), "1 Benign,_other 0.1 8");
        assert_eq!(of(info, 1), "1 Benign,_other - 9");
        assert_eq!(of("AFX=1;AD=.", 1), "- - - -");
        assert_eq!(of(".", 0), "- - - -");
        let error = InfoFields::find(&header, &["CLN".to_string()]).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("no INFO field CLN") && said.contains("CLNSIG"),
            "{said}"
        );
    }
}
