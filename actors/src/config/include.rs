//! `$include`: a configuration made of several files, by OpenClaw's rules. One file stands in the place of the object
//! that names it; several are merged in their order, lists one after the other; keys beside the include win. Nothing
//! outside of the directory of the configuration is read, whatever a path or a link says.

use crate::settings::{IncludeSite, IncludedFile};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The key.
pub const INCLUDE: &str = "$include";
/// How deep files may include each other (as OpenClaw has it).
const DEEPEST: usize = 10;
/// The largest file (as OpenClaw has it).
const MAX_FILE: u64 = 2 * 1024 * 1024;
/// A path is shorter than this (as OpenClaw has it).
const MAX_PATH: usize = 4096;
/// How often files are included at the most, each time counted; past it a few small files could make a huge whole.
pub(super) const MAX_INCLUDES: usize = 256;
/// How much of them there may be together, each time counted.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// A text that would stand in a file.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// The file.
    pub path: &'a Path,
    /// The text.
    pub text: &'a str,
}

/// What a text of a file is, by the file's name.
pub type Parse<'a> = &'a dyn Fn(&Path, &str) -> Result<Value, String>;

/// A configuration with everything that it includes.
#[derive(Default)]
pub struct Composed {
    /// Its content, without what could not be included.
    pub content: Value,
    /// Where files are included.
    pub sites: Vec<IncludeSite>,
    /// The files, each once.
    pub included: Vec<IncludedFile>,
    /// All files that were looked for.
    pub watched: Vec<PathBuf>,
    /// What could not be included: where, and why.
    pub problems: Vec<(Vec<String>, String)>,
}

/// `written`, the content of the file `main`, with everything that it includes. May block.
pub fn composed(main: &Path, written: &Value, draft: Option<Draft<'_>>, parse: Parse<'_>) -> Composed {
    let main = whole(main);
    let root = main.parent().unwrap_or(Path::new("/")).to_owned();
    let composer =
        Composer { root, draft, parse, includes: 0, bytes: 0, at: Vec::new(), made: Composed::default() };
    composer.run(&main, written)
}

/// Where a file is that `from` includes as `name`.
pub fn target(from: &Path, name: &str) -> PathBuf {
    whole(&whole(from).parent().unwrap_or(Path::new("/")).join(name))
}

/// The names in an include.
pub fn names(include: &Value) -> Option<Vec<&str>> {
    match include {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Whether files are included anywhere in it.
pub fn includes(written: &Value) -> bool {
    match written {
        Value::Object(members) => members.contains_key(INCLUDE) || members.values().any(includes),
        Value::Array(items) => items.iter().any(includes),
        _ => false,
    }
}

/// The includes of one file: where they stand, and what they say.
pub fn directives(written: &Value) -> Vec<(Vec<String>, Value)> {
    fn look(value: &Value, at: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
        let mut below = |key: String, value: &Value| {
            at.push(key);
            look(value, at, found);
            at.pop();
        };
        match value {
            Value::Object(members) => {
                members.iter().filter(|(key, _)| *key != INCLUDE).for_each(|(key, v)| below(key.clone(), v));
                found.extend(members.get(INCLUDE).map(|include| (at.clone(), include.clone())));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, v)| below(index.to_string(), v));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(written, &mut Vec::new(), &mut found);
    found
}

/// An absolute path without `.` and `..`, whatever there is on the disk.
fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Lists one after the other, objects member by member, everything else is replaced.
fn merged(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let both = match base.get_mut(&key) {
                    Some(before) => merged(before.take(), value),
                    None => value,
                };
                base.insert(key, both);
            }
            Value::Object(base)
        }
        (Value::Array(mut base), Value::Array(over)) => {
            base.extend(over);
            Value::Array(base)
        }
        (_, over) => over,
    }
}

struct Composer<'a> {
    root: PathBuf,
    draft: Option<Draft<'a>>,
    parse: Parse<'a>,
    includes: usize,
    bytes: usize,
    at: Vec<String>,
    made: Composed,
}

/// The files that are being read, the innermost last.
type Chain<'a> = &'a [PathBuf];

impl Composer<'_> {
    fn run(mut self, main: &Path, written: &Value) -> Composed {
        let content = self.value(written, &[main.to_owned()], false);
        self.made.content = content.unwrap_or_else(|| json!({}));
        self.made
    }

    /// A value with what it includes; nothing, and a problem noted, if that cannot be had.
    fn value(&mut self, written: &Value, chain: Chain<'_>, in_list: bool) -> Option<Value> {
        match written {
            Value::Array(items) => {
                let of = |(index, item): (usize, &Value)| {
                    self.below(&index.to_string(), |this| this.value(item, chain, true))
                };
                items.iter().enumerate().map(of).collect::<Option<_>>().map(Value::Array)
            }
            Value::Object(members) => match members.get(INCLUDE) {
                Some(include) => self.include(include, members, chain, in_list),
                None => Some(Value::Object(self.members(members, chain, in_list))),
            },
            other => Some(other.clone()),
        }
    }

    /// The members, without those that cannot be had.
    fn members(
        &mut self,
        members: &Map<String, Value>,
        chain: Chain<'_>,
        in_list: bool,
    ) -> Map<String, Value> {
        let mut made = Map::new();
        for (key, value) in members.iter().filter(|(key, _)| *key != INCLUDE) {
            if let Some(value) = self.below(key, |this| this.value(value, chain, in_list)) {
                made.insert(key.clone(), value);
            }
        }
        made
    }

    fn below<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.at.push(key.to_owned());
        let done = work(self);
        self.at.pop();
        done
    }

    fn include(
        &mut self,
        include: &Value,
        members: &Map<String, Value>,
        chain: Chain<'_>,
        in_list: bool,
    ) -> Option<Value> {
        let Some(names) = names(include) else {
            return self.problem("$include: the path of a file was expected, or a list of them");
        };
        let from = chain.last()?;
        let is_list = include.is_array();
        let has_siblings = members.len() > 1;
        let targets = names.iter().map(|name| target(from, name)).collect();
        self.made.sites.push(IncludeSite { at: self.at.clone(), targets, is_list, has_siblings, in_list });
        let mut all = is_list.then(|| json!({}));
        for name in names {
            let one = self.file(name, chain, in_list)?;
            all = Some(match all {
                Some(all) => merged(all, one),
                None => one,
            });
        }
        let all = all?;
        match (has_siblings, all.is_object()) {
            (false, _) => Some(all),
            (true, true) => Some(merged(all, Value::Object(self.members(members, chain, in_list)))),
            (true, false) => {
                self.problem("$include: beside keys only a file can be included that holds an object")
            }
        }
    }

    fn file(&mut self, name: &str, chain: Chain<'_>, in_list: bool) -> Option<Value> {
        match self.opened(name, chain) {
            Ok((path, content)) => {
                let chain: Vec<PathBuf> = chain.iter().cloned().chain([path]).collect();
                self.value(&content, &chain, in_list)
            }
            Err(why) => self.problem(&format!("$include {name:?}: {why}")),
        }
    }

    fn opened(&mut self, name: &str, chain: Chain<'_>) -> Result<(PathBuf, Value), String> {
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            return Err(format!("more than {MAX_INCLUDES} files are included; put some of them together"));
        }
        let from = chain.last().ok_or("nothing includes it")?;
        if name.contains('\0') || name.len() >= MAX_PATH {
            return Err(format!("a path has no NUL and fewer than {MAX_PATH} bytes"));
        }
        let path = target(from, name);
        if !path.starts_with(&self.root) || path.as_os_str().len() >= MAX_PATH {
            return Err(self.outside("it is"));
        }
        if !self.made.watched.contains(&path) {
            self.made.watched.push(path.clone());
        }
        if chain.contains(&path) {
            let circle: Vec<_> = chain.iter().chain([&path]).map(|path| path.display().to_string()).collect();
            return Err(format!("the files include each other: {}", circle.join(" -> ")));
        }
        if chain.len() > DEEPEST {
            return Err(format!("files include each other more than {DEEPEST} deep"));
        }
        let text = self.text(&path)?;
        self.bytes += text.len();
        if self.bytes > MAX_TOTAL {
            return Err(format!("all that is included is larger than {MAX_TOTAL} bytes"));
        }
        let content = (self.parse)(&path, &text)?;
        if !self.made.included.iter().any(|file| file.path == path) {
            self.made.included.push(IncludedFile { path: path.clone(), text, content: content.clone() });
        }
        Ok((path, content))
    }

    fn outside(&self, it: &str) -> String {
        format!("{it} outside of {}, the directory of the configuration; move it there", self.root.display())
    }

    fn text(&self, path: &Path) -> Result<String, String> {
        if let Some(draft) = self.draft.filter(|draft| whole(draft.path) == path) {
            return Ok(draft.text.to_owned());
        }
        let failed = |e: std::io::Error| {
            format!("{} cannot be read: {e}; correct the path or its permissions", path.display())
        };
        let root = std::fs::canonicalize(&self.root).map_err(failed)?;
        let real = std::fs::canonicalize(path).map_err(failed)?;
        let Ok(inside) = real.strip_prefix(&root) else { return Err(self.outside("a link leads to a file")) };
        // Opened from the directory itself, so that a link which is laid meanwhile leads nowhere.
        let root = Dir::open_ambient_dir(&root, ambient_authority()).map_err(failed)?;
        let about = root.metadata(inside).map_err(failed)?;
        if !about.is_file() || about.len() > MAX_FILE || about.nlink() > 1 {
            return Err(format!("a plain file of at most {MAX_FILE} bytes with one name was expected"));
        }
        let mut text = String::new();
        let file = root.open(inside).map_err(failed)?;
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    fn problem<T>(&mut self, why: &str) -> Option<T> {
        self.made.problems.push((self.at.clone(), why.to_owned()));
        None
    }
}

#[cfg(test)]
#[path = "include_tests.rs"]
mod tests;
