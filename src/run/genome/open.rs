//! The input of `embed` and `predict`, opened for a model: what is read, by which heads, in which
//! columns.

use super::{GenomeJob, Inputs, OpenGenome, RowsOf};
use crate::error::{Error, Result};
use crate::head::Task;
use crate::io::genome::Genome;
use crate::run::device::Load;
use crate::run::heads;
use crate::run::options::note_of_masks;
use crate::run::session::{Loaded, Session};
use crate::stream::Strand;
use crate::stream::genome::{GenomeSettings, Head, Intervals};
use crate::table::{self, Column, Positions, RowUnit};

impl GenomeJob<'_> {
    /// Opens the input for a model; `task`: the head of bases that predicts, if it is not the
    /// language model.
    pub(super) fn open_with(&self, mut loaded: Loaded, task: Option<Task>) -> Result<OpenGenome> {
        let Inputs {
            source, compute, ..
        } = self.inputs;
        if let RowsOf::Embeddings(embed) = self.rows {
            loaded.layers = embed.layers.find(&loaded.facts)?;
        }
        let scratch = compute.exact_bytes(&loaded.model)?;
        let strand = self.strand(task.as_ref())?;
        if let (Some(heads), true, Some(_)) =
            (self.heads(), source.intervals.intervals.is_some(), &task)
        {
            let what = "--intervals is for the language model's predictions";
            return Err(Error::usage(what).todo(heads.without("--intervals")));
        }
        let annotation = source.intervals.read(source.allow_empty)?;
        let (intervals, feature, left_out) = match annotation {
            Some(read) => (
                Some(Intervals::new(read.intervals)),
                read.feature,
                read.empty,
            ),
            None => (None, None, 0),
        };
        let together = self.together(task.as_ref());
        let (regions, empty) = source.regions.queries(source.allow_empty)?;
        let wanted = self.wanted(&regions, intervals.as_ref(), source.sharding.one(), None);
        let genome = source.open(&loaded.facts, strand, together, wanted)?;
        let session = self.session_for(loaded, &genome, task.as_ref())?;
        let head = self.head(&session.checkpoint, &session.engine, task.as_ref())?;
        let others = session.others.iter();
        let other_heads =
            others.map(|engine| self.head(&session.checkpoint, engine, task.as_ref()));
        let other_heads = other_heads.collect::<Result<_>>()?;
        let columns = match &intervals {
            Some(intervals) => self.interval_columns(&session, intervals),
            None => self.row_columns(&session, (&head, task.as_ref()), strand),
        };
        let settings = GenomeSettings {
            chunk: session.chunk,
            windows: session.windows,
            strand,
            bins: self.bins(),
            intervals: intervals.map(|all| (all, self.pool())),
            scratch: compute.scratch(self.inputs.output.path()),
        };
        let mut opened = OpenGenome {
            columns: if genome.consensus().is_some() {
                table::with_depth(columns, self.unit())
            } else {
                columns
            },
            has_table: self.table().is_some(),
            session,
            genome,
            head,
            other_heads,
            task,
            settings,
            regions,
            feature,
            left_out: left_out + empty,
        };
        opened.estimate(None);
        opened.session.estimate.scratch = scratch;
        Ok(opened)
    }

    /// The model on its device, for what is read, with what is to be said of both.
    fn session_for(&self, loaded: Loaded, genome: &Genome, task: Option<&Task>) -> Result<Session> {
        let Inputs {
            source, compute, ..
        } = self.inputs;
        let note = source.note(&loaded.facts);
        let exact = compute.exact.then_some("--exact runs on the CPU");
        let load = Load {
            bases: genome.bases_hint(),
            vectors: matches!(self.rows, RowsOf::Embeddings(_)) && self.bins().is_none(),
        };
        let mut session = Session::open(loaded, compute, exact, load)?;
        session.notes.extend(note);
        if let RowsOf::Predictions(predict) = self.rows {
            let notes = heads::notes(&session.checkpoint, task)?;
            session.notes.extend(notes);
            let masks = self.masks(&session.engine.facts, task);
            let idle = note_of_masks(predict.mask_every, masks);
            session.notes.extend(idle.map(str::to_string));
        }
        Ok(session)
    }

    fn unit(&self) -> RowUnit {
        if self.bins().is_some() {
            RowUnit::Bin
        } else {
            RowUnit::Base
        }
    }

    /// The columns of bases and bins; of bases with their tokens, where these cover several.
    fn row_columns(
        &self,
        session: &Session,
        (head, task): (&Head, Option<&Task>),
        strand: Strand,
    ) -> Vec<Column<Positions>> {
        let columns = self.columns(session, head, task);
        let of_bases = self.unit() == RowUnit::Base && strand != Strand::Mean;
        if of_bases && session.engine.model.with_words().is_some() {
            table::with_tokens(columns)
        } else {
            columns
        }
    }
}
