//! What a command line would run, as far as that can be told for certain, and whether an allowlist has it all.
//!
//! Certain is little: words, quotes, pipes and lists (`|`, `&&`, `||`, `;`). All else a shell can do (substitutions,
//! files as input or output, functions, assignments, builtins that change what comes after them) is [`Opaque`]:
//! nobody but a person can say whether it may run.
//!
//! [`Opaque`]: Verdict::Opaque

use globset::GlobBuilder;
use regex::Regex;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Words that mean something to a shell itself, in any of those we use: they run other things than their name says,
/// or change what the rest of the line means. Those that are left out do the same as the programs of their name.
const SHELL_WORDS: &str = "! . : [ [[ alias always autoload bg bind bindkey break builtin caller case cd chdir command \
    compgen complete compopt continue coproc declare dirs disable disown do done echotc echoti elif else emulate enable \
    end esac eval exec exit export fc fg fi float for foreach function functions getopts hash help history if in \
    integer jobs kill let limit local log logout mapfile nocorrect noglob popd print printf private pushd pushln read \
    readarray readonly rehash repeat return sched select set setopt shift shopt source suspend test then time times \
    trap type typeset ulimit umask unalias unfunction unhash unlimit unset unsetopt until vared wait whence where \
    which while zcompile zformat zle zmodload zparseopts zpty zstyle ztcp } {";

/// What an allowlist says to a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it would run is on it.
    Allowed,
    /// These are not: paths of programs, or the bare names of those that were not found.
    Missing(Vec<String>),
    /// What it would run cannot be told.
    Opaque,
}

/// What decides which program a word names.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// Where the command starts.
    pub dir: &'a Path,
    /// `PATH`.
    pub path: &'a OsStr,
    /// The directory that `~/` in a pattern stands for.
    pub home: Option<&'a Path>,
}

/// An entry of an allowlist.
pub struct Rule {
    pattern: String,
    words: Words,
}

/// What comes after the program.
enum Words {
    Any,
    Like(Regex),
    /// The expression cannot be read, and allows nothing.
    Unreadable,
}

impl Rule {
    /// A rule for a program, and, if it says so, for just these arguments: an expression that is held against them
    /// joined by spaces (OpenClaw's `argPattern`). What JavaScript alone understands of it allows nothing here.
    pub fn new(pattern: &str, arg_pattern: Option<&str>) -> Self {
        let words = match arg_pattern.map(Regex::new) {
            None => Words::Any,
            Some(Ok(expression)) => Words::Like(expression),
            Some(Err(_)) => Words::Unreadable,
        };
        Self { pattern: pattern.trim().to_owned(), words }
    }

    fn allows(&self, argv: &[String], program: &Path, home: Option<&Path>) -> bool {
        let Some((word, rest)) = argv.split_first() else { return false };
        let words = match &self.words {
            Words::Any => true,
            // What a shell makes other words of is not what is seen here.
            Words::Like(_) if rest.iter().any(|word| word.contains(['*', '?', '[', '{', '~'])) => false,
            Words::Like(expression) => expression.is_match(&rest.join(" ")),
            Words::Unreadable => false,
        };
        words && matches(&self.pattern, word, program, home)
    }
}

/// Holds a command line against the rules of an allowlist. A pattern with a `/` is held against the path of the
/// program (`/usr/bin/rg`, `~/bin/*`, `/opt/**`), one without against the name of a program that is found in `PATH`;
/// `**` alone allows every program.
pub fn verdict(command: &str, allowlist: &[Rule], lookup: &Lookup<'_>) -> Verdict {
    let Some(segments) = segments(command) else { return Verdict::Opaque };
    let mut missing = Vec::new();
    for argv in &segments {
        let Some(word) = argv.first() else { continue };
        if !is_plain(word) {
            return Verdict::Opaque;
        }
        let program = find(word, lookup);
        if !program.as_ref().is_some_and(|program| lists(allowlist, argv, program, lookup.home)) {
            let name = program.map_or_else(|| word.clone(), |path| path.to_string_lossy().into_owned());
            if !missing.contains(&name) {
                missing.push(name);
            }
        }
    }
    if missing.is_empty() { Verdict::Allowed } else { Verdict::Missing(missing) }
}

/// Whether rules allow a program that was called like this, as [`find`] finds it. A path that climbs is on no list:
/// where it leads is not what it says.
pub fn lists(allowlist: &[Rule], argv: &[String], program: &Path, home: Option<&Path>) -> bool {
    let climbs = argv.first().is_some_and(|word| climbs(word));
    !climbs && allowlist.iter().any(|rule| rule.allows(argv, program, home))
}

/// The program a word names; `None` if there is none.
pub fn find(word: &str, lookup: &Lookup<'_>) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if word.contains('/') {
        // Without `.`, which `components` drops.
        return Some(lookup.dir.join(word).components().collect()).filter(is_program);
    }
    // A relative entry depends on where the shell is by then: what comes after it cannot be told.
    let mut dirs = std::env::split_paths(lookup.path).take_while(|dir| dir.is_absolute());
    dirs.find_map(|dir| Some(dir.join(word)).filter(is_program))
}

/// Whether the first word of a command can be nothing but the name or path of a program.
fn is_plain(word: &str) -> bool {
    let special = |c: char| matches!(c, '=' | '*' | '?' | '[' | '{' | '~' | '#' | '^') || c.is_control();
    !word.is_empty()
        && !word.contains(special)
        && !SHELL_WORDS.split_whitespace().any(|shell| shell == word)
        && !climbs(word)
}

fn climbs(word: &str) -> bool {
    Path::new(word).components().any(|part| part == Component::ParentDir)
}

fn matches(pattern: &str, word: &str, program: &Path, home: Option<&Path>) -> bool {
    let glob = |pattern: &str, candidate: &Path| {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(candidate))
    };
    if pattern == "**" {
        return true;
    }
    if !pattern.contains('/') {
        return !word.contains('/') && glob(pattern, Path::new(word));
    }
    match (pattern.strip_prefix("~/"), home.and_then(Path::to_str)) {
        (Some(rest), Some(home)) => glob(&format!("{}/{rest}", globset::escape(home)), program),
        (Some(_), None) => false,
        (None, _) => glob(pattern, program),
    }
}

/// The words of each command of a line; `None` if that cannot be told for certain.
fn segments(line: &str) -> Option<Vec<Vec<String>>> {
    let segments = split(line)?;
    segments.iter().map(|segment| shlex::split(segment).filter(|argv| !argv.is_empty())).collect()
}

/// The commands of a line, without redirections that do no harm. Nothing that is left in them means more to a shell
/// than to [`shlex`], except patterns of file names.
fn split(line: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut segment = String::new();
    let mut rest = line.trim();
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        let after = &rest[taken..];
        match c {
            '\'' => taken = after.find('\'')? + 2,
            '"' => taken = double_quoted(after)? + 1,
            '\\' => taken += after.chars().next().filter(|next| *next != '\n')?.len_utf8(),
            '$' | '`' | '(' | ')' | '<' => return None,
            '#' if segment.is_empty() || segment.ends_with(char::is_whitespace) => return None,
            '>' => {
                taken += harmless_target(after)?;
                let word = segment.rfind(char::is_whitespace).map_or(0, |space| space + 1);
                if matches!(&segment[word..], "1" | "2") {
                    segment.truncate(word);
                }
                segment.push(' ');
                rest = &rest[taken..];
                continue;
            }
            '|' | '&' | ';' | '\n' => {
                let doubled = after.starts_with(c) && c != '\n';
                if (c == '&') != doubled && c != '|' || after.starts_with("&") && c == '|' {
                    return None;
                }
                done.push(std::mem::take(&mut segment));
                rest = rest[taken + usize::from(doubled)..].trim_start_matches([' ', '\t']);
                continue;
            }
            _ if c.is_control() && c != '\t' => return None,
            _ => {}
        }
        segment.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    // A `;` may end the line.
    if !segment.trim().is_empty() || !line.trim_end().ends_with(';') {
        done.push(segment);
    }
    Some(done)
}

/// How long the rest of a text in double quotes is, its end included.
fn double_quoted(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(at + 1),
            '\\' => _ = chars.next()?,
            '$' | '`' => return None,
            _ => {}
        }
    }
    None
}

/// How long the target of a `>` is, if it is the other output or nowhere.
fn harmless_target(after: &str) -> Option<usize> {
    let ends = |rest: &str| rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '|'));
    let targets = ["&1", "&2", "/dev/null", " /dev/null"];
    let target = targets.iter().find(|target| after.strip_prefix(**target).is_some_and(ends))?;
    Some(target.len())
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
