//! Moves a session with its transcripts: the rows first, so many in a commit, and the session last. Whoever is killed
//! meanwhile has rows that nobody sees, and the next run goes on after them.

use std::io;
use std::path::Path;

use anyhow::Context;
use crabtree_actors::store::{
    Db, Entry, NewMessage, SessionUpdate, Shelf, StoreError, WriteOp, import_branch, import_rows,
};
use serde_json::{Value, json};

use super::lines::each_line;
use super::message::{own_id, row};
use super::sessions::{Origin, Session};
use super::source::Source;
use super::tree::{Head, MAX_ENTRIES, Part, Tree};

/// Rows in one commit.
const BATCH_ROWS: usize = 256;
/// Bytes of rows in one commit, about.
const BATCH_BYTES: usize = 4 << 20;
/// Broken entries that are named; the others are counted.
const NAMED_BROKEN: usize = 20;

/// What came of the transcripts.
#[derive(Debug, Default)]
pub struct Moved {
    /// Messages that are new here.
    pub messages: u64,
    /// Entries that cannot be read.
    pub broken: u64,
    /// The first of them: where, and why.
    pub named: Vec<String>,
    /// Branches that are left out.
    pub branches_left_out: u64,
}

impl Moved {
    fn note(&mut self, place: &str, number: u64, why: &str) {
        self.broken += 1;
        if self.named.len() < NAMED_BROKEN {
            self.named.push(format!("{place}:{number}: {why}"));
        }
    }
}

/// The mover of sessions.
pub struct Mover<'a> {
    /// Where they come from.
    pub source: &'a Source,
    /// Where they go.
    pub db: &'a Db,
    /// What came of it so far.
    pub moved: Moved,
    /// Told after each commit.
    pub progress: &'a mut dyn FnMut(u64),
}

/// A transcript in the other installation.
struct Scroll<'a> {
    session: &'a Session,
    session_id: &'a str,
}

/// What the rows of a part leave for its session.
#[derive(Default)]
struct Kept {
    summary: Option<String>,
    first_kept_seq: Option<i64>,
}

impl Mover<'_> {
    /// Moves a session that is not here yet.
    ///
    /// # Errors
    /// It cannot be read, or not be written.
    pub fn session(&mut self, session: &Session) -> anyhow::Result<()> {
        for older in &session.older {
            self.transcript(&Scroll { session, session_id: older }, false)?;
        }
        let kept = self.transcript(&Scroll { session, session_id: &session.session_id }, true)?;
        let mut update = session.update.clone();
        if let (Some(entry), Some((summary, seq))) =
            (&mut update.entry, kept.summary.zip(kept.first_kept_seq))
        {
            entry["compaction"] = json!({ "summary": summary, "firstKeptSeq": seq });
        }
        let made = self.put(session, update.clone());
        if let Err(StoreError::Conflict { .. }) = made {
            // Another session of the agent has the label; its name stays to be seen.
            let label = update.label.take().flatten();
            if let (Some(entry), Some(label)) = (&mut update.entry, label) {
                entry["displayName"] = json!(label);
            }
            return Ok(self.put(session, update)?);
        }
        Ok(made?)
    }

    fn put(&self, session: &Session, update: SessionUpdate) -> Result<(), StoreError> {
        let key = session.key.to_string();
        let first = SessionUpdate {
            at: session.created_at,
            session_id_if_new: Some(session.session_id.clone()),
            ..Default::default()
        };
        let op = WriteOp::All(vec![
            WriteOp::UpdateSession { key: key.clone(), update: first },
            WriteOp::UpdateSession { key, update },
        ]);
        self.db.apply_batch(&[op], &|_| {})?.remove(0).map(drop)
    }

    /// Moves one transcript; the current one goes with its branches.
    fn transcript(&mut self, scroll: &Scroll<'_>, current: bool) -> anyhow::Result<Kept> {
        let tree = self.tree(scroll)?;
        let parts = tree.parts();
        let last = parts.main.len().saturating_sub(1);
        let shelves: Vec<Shelf> =
            (0..parts.main.len()).map(|at| scroll.shelf(at, at == last && current)).collect();
        let main: Vec<_> = parts.main.iter().zip(&shelves).collect();
        let mut kept = self.rows(scroll, &main)?;
        if current {
            self.moved.branches_left_out += parts.left_out as u64;
            for part in parts.branches.iter().rev() {
                let id = own_id(&format!("{}#branch", scroll.session.key), &part.leaf.to_string());
                let shelf = Shelf { session_id: id, revision: String::new(), ..shelves[last].clone() };
                self.rows(scroll, &[(part, &shelf)])?;
                match import_branch(self.db, &shelf, &shelves[last]) {
                    // The conversation itself may be empty since it was rewound to its beginning.
                    Ok(()) | Err(StoreError::NotFound) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(kept.pop().unwrap_or_default())
    }

    fn tree(&mut self, scroll: &Scroll<'_>) -> anyhow::Result<Tree> {
        let mut tree = Tree::default();
        let source = self.source;
        let place = scroll.place(source);
        let moved = &mut self.moved;
        scroll.each(source, &mut |number, entry| {
            match entry.and_then(|text| serde_json::from_str::<Head<'_>>(text).map_err(|e| unreadable(&e))) {
                Ok(head) if tree.add(number, &head) => {}
                Ok(_) => moved.note(&place, number, "it has no place in the conversation"),
                Err(why) => moved.note(&place, number, &why),
            }
            Ok(())
        })?;
        if tree.is_full() {
            moved.note(&place, MAX_ENTRIES as u64, "the transcript is longer than is read");
        }
        Ok(tree)
    }

    /// Writes the rows of parts that follow each other, in one pass through the transcript.
    fn rows(&mut self, scroll: &Scroll<'_>, parts: &[(&Part, &Shelf)]) -> anyhow::Result<Vec<Kept>> {
        let mut wanted = parts
            .iter()
            .enumerate()
            .flat_map(|(at, (part, _))| part.numbers.iter().map(move |number| (*number, at)))
            .peekable();
        let source = self.source;
        let place = scroll.place(source);
        let mut kept: Vec<Kept> = parts.iter().map(|_| Kept::default()).collect();
        let (mut batch, mut bytes, mut last) = (Vec::new(), 0, None::<(usize, String)>);
        let mut seqs = vec![0; parts.len()];
        scroll.each(source, &mut |number, entry| {
            for (at, (part, _)) in parts.iter().enumerate() {
                if part.compaction.is_some_and(|(compaction, _)| compaction == number)
                    && let Ok(text) = entry
                    && let Ok(entry) = serde_json::from_str::<Value>(text)
                {
                    kept[at].summary = entry["summary"].as_str().map(str::to_owned);
                }
            }
            let Some((_, at)) = wanted.next_if(|(wanted, _)| *wanted == number) else { return Ok(()) };
            let (part, shelf) = parts[at];
            if last.as_ref().is_some_and(|(before, _)| *before != at) {
                let (_, before) = parts[last.take().map_or(at, |(before, _)| before)];
                self.flush(before, &mut batch, &mut bytes)?;
            }
            let text = entry.map_err(|why| anyhow::anyhow!("{place}:{number}: {why}"))?;
            let parent = last.take().map(|(_, id)| id);
            let made = serde_json::from_str(text).ok();
            let Some(row) = made.and_then(|entry| row(shelf, number, parent, entry)) else {
                self.moved.note(&place, number, "it is no message");
                return Ok(());
            };
            seqs[at] += i64::from(!row.hidden);
            if part.compaction.is_some_and(|(_, first)| first == number) {
                kept[at].first_kept_seq = Some(seqs[at]);
            }
            last = Some((at, row.id.clone()));
            bytes += text.len();
            batch.push(row);
            if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                self.flush(shelf, &mut batch, &mut bytes)?;
            }
            Ok(())
        })?;
        if let Some((at, _)) = last {
            self.flush(parts[at].1, &mut batch, &mut bytes)?;
        }
        Ok(kept)
    }

    fn flush(&mut self, shelf: &Shelf, batch: &mut Vec<NewMessage>, bytes: &mut usize) -> anyhow::Result<()> {
        self.moved.messages += import_rows(self.db, shelf, batch)?;
        batch.clear();
        *bytes = 0;
        (self.progress)(self.moved.messages);
        Ok(())
    }
}

impl Scroll<'_> {
    /// Where a part of it goes. What was before the session was begun anew has a revision of its own.
    fn shelf(&self, part: usize, current: bool) -> Shelf {
        let revision = if current { self.session.revision.clone() } else { format!("imported-{part}") };
        Shelf { key: self.session.key.to_string(), session_id: self.session_id.to_owned(), revision }
    }

    /// What it is called where something is wrong with it.
    fn place(&self, source: &Source) -> String {
        match &self.session.origin {
            Origin::File(path) => path.strip_prefix(&source.dir).unwrap_or(path).display().to_string(),
            _ => format!("session {}", self.session_id),
        }
    }

    fn each(
        &self,
        source: &Source,
        each: &mut dyn FnMut(u64, Entry<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match &self.session.origin {
            Origin::Database => {
                let Some(db) = &source.agents[self.session.agent].db else { return Ok(()) };
                db.entries(self.session_id, each)
            }
            Origin::File(path) => lines(path, each),
            Origin::Nowhere => Ok(()),
        }
        .with_context(|| self.place(source))
    }
}

fn lines(path: &Path, each: &mut dyn FnMut(u64, Entry<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    match each_line(path, each) {
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
            Ok(())
        }
        done => done,
    }
}

/// Where an entry breaks off, without its words.
fn unreadable(error: &serde_json::Error) -> String {
    format!("it is no entry of a transcript (column {})", error.column())
}
