use super::super::super::{Options, Reader};
use super::*;
use crate::io::input::Input;
use std::io::Cursor;

const HEADER: &str = "##fileformat=VCFv4.2\n\
    ##contig=<ID=c1,length=9000000>\n##contig=<ID=c2>\n\
    ##FILTER=<ID=q10,Description=\"d\">\n\
    ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
    ##INFO=<ID=AF,Number=A,Type=Float,Description=\"d\">\n\
    ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"d\">\n\
    ##INFO=<ID=END,Number=1,Type=Integer,Description=\"d\">\n\
    ##INFO=<ID=S,Number=.,Type=String,Description=\"d\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"d\">\n\
    ##FORMAT=<ID=PL,Number=G,Type=Integer,Description=\"d\">\n\
    ##FORMAT=<ID=GL,Number=G,Type=Float,Description=\"d\">\n\
    ##FORMAT=<ID=FT,Number=1,Type=String,Description=\"d\">\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n";

fn reader(bytes: Vec<u8>) -> Reader {
    let input = Input::new("x", Box::new(Cursor::new(bytes)), false);
    Reader::new(input.unwrap(), &Options::default()).unwrap()
}

/// The lines of a VCF, as they are read from a BCF of them.
fn through(header: &str, records: &str) -> Result<Vec<String>> {
    let mut text = reader([header, records].concat().into_bytes());
    let mut encoder = Encoder::new(text.header())?;
    let mut bcf = Vec::new();
    while text.next_record()?.is_some() {
        encoder.complete(text.line())?;
        encoder.encode(text.line(), &mut bcf)?;
    }
    let added: String = encoder
        .added()
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    let (before, columns) = header.split_at(header.find("#CHROM").unwrap());
    let head = Encoder::header([before, &added, columns].concat().as_bytes())?;
    let mut decoded = reader([head, bcf].concat());
    let mut lines = Vec::new();
    while decoded.next_record()?.is_some() {
        lines.push(String::from_utf8(decoded.line().to_vec()).unwrap());
    }
    Ok(lines)
}

#[test]
fn records_are_read_as_they_were() {
    let long = "GATTACA".repeat(3);
    let wide = "A".repeat(300);
    let records = [
        "c1\t1\t.\tA\tC\t.\t.\t.\tGT\t0/1\t1|0\n".to_string(),
        format!("c2\t5\trs1\tA\t{long},<DEL>,{wide}\t30.5\tPASS\tDB;AF=0.5,.,1e-7\tGT\t.\t.\n"),
        "c2\t4000000\ta;b\tAC\tA\t3\tq10\tDP=200;END=4000099;S=x,y\tGT:PL\t0:1,2,-300\t./2:.\n"
            .to_string(),
        "c1\t9\t.\tN\t.\t.\tq10\tDP=40000;S=a%2Cb\tPL:GL:FT\t70000,.:-0.5,.:PASS\t1:.:q\n"
            .to_string(),
        "c1\t10\t.\tA\tG\t.\t.\tDP=.\tGT:FT\t0|1|1:x\t2/.:yy\n".to_string(),
    ];
    let found = through(HEADER, &records.concat()).unwrap();
    assert_eq!(found, records);
}

#[test]
fn what_the_header_lacks_is_declared_as_text() {
    let record = "x\t1\t.\tA\tC\t.\tlow\tN=1,2;F;DP=3\tGT:Q\t0:7\t1:.\n";
    assert_eq!(through(HEADER, record).unwrap(), [record]);
    // What a sample leaves out at its end is missing.
    let short = record.replace("\t1:.", "\t1");
    assert_eq!(through(HEADER, &short).unwrap(), [record]);
}

#[test]
fn values_of_another_type_are_refused() {
    for (info, said) in [
        ("DP=x", "DP is declared as Integer"),
        ("DP=3000000000", "DP is declared as Integer"),
        ("AF=a", "AF is declared as Float"),
    ] {
        let record = format!("c1\t1\t.\tA\tC\t.\t.\t{info}\tGT\t0\t1\n");
        let error = through(HEADER, &record).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let record = "c1\t1\t.\tA\tC\t.\t.\t.\tGT\ta\t1\n";
    assert!(through(HEADER, record).is_err());
}
