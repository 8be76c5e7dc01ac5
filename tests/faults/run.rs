//! Small runs of the commands, and what they leave.

use crate::harness::{Case, PROGRAM, bases, bytes, listing, record, torch};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Command lines of small runs of a model; all that they write begins with `out`.
pub const RUNS: [&str; 18] = [
    "embed a.fa -m model -o out.parquet -t 2",
    "embed a.fa -m model -o out.parquet -t 2 --strand both --chunk 512 --summary out.json",
    "embed a.fa -m model -o out.parquet -t 2 --regions-file r.bed --bin 16",
    "embed a.fa -m model -o out.parquet -t 2 --chunk 512 --resume --checkpoint-every 0",
    "predict a.fa -m model -o out.parquet -t 2",
    "reads r.sam -m model -o out.parquet -t 2 --per-base out.bases.parquet --bam-out out.bam",
    "reads r.sam -m model -o out.parquet -t 2 --chunk 200 --resume --checkpoint-every 0",
    "score v.vcf -r a.fa -m model -o out.parquet -t 2 --after 20 --vcf-out out.vcf.gz",
    "score v.vcf -r a.fa -m model -o out.parquet -t 2 --after 20 --resume --checkpoint-every 0",
    "fit a.fa -m model -o out -t 1 --steps 2 --batch 1 --length 128 --seed 1 --checkpoint-every 0",
    "fit --objective sequences --table t.csv -m model -o out -t 1 --steps 2 --batch 2 --seed 1 \
     --checkpoint-every 0",
    "embed a.fa -m model -o out.parquet -t 2 --intervals r.bed",
    "embed a.fa -m bidirectional -o out.parquet -t 2 --exact --region a:1-300",
    "predict a.fa -m crocuta-bacteria-genes -t 2 --region a:1-200 --genes out.gff3 --bed out.bed \
     --bigwig out",
    "reads small.bam -m model -o out.parquet -t 2 --region 17:1-700",
    "reads small.cram -r ref.fa -m model -o out.parquet -t 2 --bam-out out.bam",
    "reads r.fq -m model -o out.parquet -t 2",
    "score v.vcf -r a.fa -m model -o out.parquet -t 2 --after 20 --vcf-out out.bcf --tsv out.tsv \
     --plot out.svg",
];

/// Of work on models and tables.
pub const WORK: [&str; 11] = [
    "models new --config model/config.json --seed 1 -o out",
    "models convert model --dtype f16 -o out",
    "models convert model --distil 2 -o out",
    "models convert m.pt --config model/config.json -o out",
    "models merge model adapter -o out",
    "table concat one.parquet two.parquet -o out.parquet",
    "table export one.parquet -o out.npy",
    "table export one.parquet -o out.tsv",
    "table join predicted.parquet labels.tsv -o out.parquet",
    "table summarise predicted.parquet --by base -o out.tsv",
    "table summarise predicted.parquet --by r.bed -o out.parquet",
];

/// What a run left beside its inputs, by name. Bytes are kept of what is the same each time.
pub type Left = BTreeMap<String, Vec<u8>>;

const ADAPTER: &str = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4,
    "target_modules": ["in_proj"]}"#;

/// The two factors of what the adapter adds to a matrix of 48 rows and 16 columns.
fn adapter() -> Vec<u8> {
    let module = "base_model.model.hyena.backbone.layers.0.mixer.in_proj";
    let header = format!(
        r#"{{"{module}.lora_A.weight":{{"dtype":"F32","shape":[2,16],"data_offsets":[0,128]}},"{module}.lora_B.weight":{{"dtype":"F32","shape":[48,2],"data_offsets":[128,512]}}}}"#
    );
    let values = (0..128u8).flat_map(|i| (f32::from(i) * 1e-3).to_le_bytes());
    bytes::safetensors(&header, &values.collect::<Vec<_>>())
}

/// A table of sequences with two labels.
fn sequences(bases: &str) -> String {
    let rows = (0..8).map(|i| format!("{},{}\n", &bases[i * 50..][..40], i % 2));
    "sequence,label\n".to_string() + &rows.collect::<String>()
}

/// A command line in a directory of its own.
pub struct Small {
    case: Case,
    inputs: BTreeSet<String>,
    /// What a run that nothing disturbs leaves.
    pub whole: Left,
    /// How long that takes.
    pub time: Duration,
}

/// How a run ended.
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it said.
    pub stderr: String,
}

impl Small {
    /// Runs the command once.
    pub fn new(line: &str) -> Self {
        let sequence = bases(1, 1500);
        let mut sam = "@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:a\tLN:1500\n".to_string();
        for i in 0..6 {
            let (start, read) = (i * 100 + 1, &sequence[i * 100..][..100]);
            sam.push_str(&format!(
                "r{i}\t0\ta\t{start}\t60\t100M\t*\t0\t0\t{read}\t*\n"
            ));
        }
        let mut vcf =
            "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".to_string();
        for at in [200, 700] {
            let reference = &sequence[at - 1..at];
            let other = if reference == "A" { "C" } else { "A" };
            vcf.push_str(&format!("a\t{at}\t.\t{reference}\t{other}\t.\t.\t.\n"));
        }
        let mut case = Case::new(line)
            .file("a.fa", record("a", &sequence, 60))
            .file("a.fa.fai", "a\t1500\t3\t60\t61\n")
            .file("r.bed", "a\t10\t200\na\t500\t700\n")
            .file("r.sam", sam)
            .file("v.vcf", vcf)
            .file(
                "r.fq",
                "@r1\nACGTACGTTT\n+\nIIIIIIIIII\n@r2\nGGCATTA\n+\nIIIIIII\n",
            )
            .file(
                "labels.tsv",
                "chrom\tstart\tend\tlabel\na\t10\t11\t1\na\t20\t21\t0\n",
            )
            .file("t.csv", sequences(&sequence))
            .file("m.pt", torch::checkpoint(&[""]))
            .file("adapter/adapter_config.json", ADAPTER)
            .file("adapter/adapter_model.safetensors", adapter());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let copied = |case: Case, from: &str, to: &str| {
            let bytes = std::fs::read(root.join(from)).unwrap();
            case.file(to, bytes)
        };
        for name in [
            "small.bam",
            "small.bam.bai",
            "small.cram",
            "ref.fa",
            "ref.fa.fai",
        ] {
            case = copied(case, &format!("data/reads/{name}"), name);
        }
        for name in ["config.json", "model.safetensors"] {
            let from = format!("goldens/caduceus-ph/{name}");
            case = copied(case, &from, &format!("bidirectional/{name}"));
        }
        if line.starts_with("table") {
            for (name, region) in [("one.parquet", "a:1-700"), ("two.parquet", "a:701-1500")] {
                let part = Case::embed(record("a", &sequence, 60), &format!("--region {region}"));
                let part = { part }.run().succeeds(&["out.parquet"]);
                case = case.file(name, part.file("out.parquet"));
            }
            let predicted = Case::new("predict a.fa -m model -o out.parquet");
            let predicted = predicted.file("a.fa", record("a", &sequence, 60));
            let predicted = { predicted }.run().succeeds(&["out.parquet"]);
            case = case.file("predicted.parquet", predicted.file("out.parquet"));
        }
        let mut small = Self {
            inputs: listing(&case.path("")).into_keys().collect(),
            case,
            whole: Left::new(),
            time: Duration::ZERO,
        };
        let start = Instant::now();
        let ended = small.run(&[]);
        small.time = start.elapsed();
        assert_eq!(ended.code, Some(0), "{line}\n{}", ended.stderr);
        small.whole = small.left();
        assert!(
            small.whole.keys().any(|name| name.starts_with("out")),
            "{line}"
        );
        assert_eq!(small.hidden(), None, "{line}");
        small
    }

    /// The command, with these variables and arguments more.
    pub fn command(&self, variables: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = self.case.command();
        command.args(args).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Another command in the same directory.
    pub fn other(&self, line: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(line.split_whitespace());
        command.current_dir(self.case.path(""));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, variables: &[(&str, &str)]) -> Ended {
        self.run_with(variables, &[])
    }

    fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Ended {
        let output = assert_cmd::Command::from_std(self.command(variables, args))
            .timeout(Duration::from_secs(30))
            .output()
            .unwrap();
        Ended {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it again, going on with what a stopped one left: it gives what one that nothing
    /// disturbs does, and leaves nothing else.
    pub fn again(&self, what: &str) {
        let saved = self.case.path(".out.fit").exists();
        let ended = self.run_with(&[], if saved { &["--resume"] } else { &[] });
        assert_eq!(ended.code, Some(0), "{what}: repeated\n{}", ended.stderr);
        assert!(self.left() == self.whole, "{what}: repeated: other outputs");
        assert_eq!(self.hidden(), None, "{what}: repeated");
    }

    /// What is there beside the inputs.
    pub fn left(&self) -> Left {
        let found = listing(&self.case.path("")).into_iter();
        let mine = found.filter(|(name, _)| name.starts_with("out") && !self.inputs.contains(name));
        // Times and speeds stand in the others.
        let kept = [
            "bai",
            "bam",
            "bcf",
            "bed",
            "bw",
            "csi",
            "gff3",
            "gz",
            "npy",
            "parquet",
            "safetensors",
            "tbi",
            "tsv",
        ];
        mine.map(|(name, content)| {
            let extension = name.rsplit('.').next().unwrap_or_default();
            let content = content.filter(|_| kept.contains(&extension));
            (name, content.map(|(bytes, _)| bytes).unwrap_or_default())
        })
        .collect()
    }

    /// The first thing that is left under a hidden name, other than what a run goes on from.
    pub fn hidden(&self) -> Option<String> {
        let names = std::fs::read_dir(self.case.path("")).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.find(|name| {
            let is_saved = [".out.parquet.journal", ".out.fit"].contains(&name.as_str());
            name.starts_with('.') && !is_saved
        })
    }

    /// Removes everything but the inputs.
    pub fn clean(&self) {
        for entry in std::fs::read_dir(self.case.path("")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if self.inputs.contains(name) {
                continue;
            }
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}
