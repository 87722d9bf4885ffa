//! [`Template`]: a command with places where the input goes.

use super::job::Job;
use super::program::WORD_BYTES;

/// The words of a command, parsed once.
#[derive(Clone, Debug)]
pub struct Template {
    words: Vec<Word>,
    /// Whether the command has a placeholder, be it for the input, the job's number or the slot.
    has_fields: bool,
}

type Word = Vec<Part>;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Field(Which, Form),
    JobNumber,
    Slot,
}

/// Selects among a job's arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Each,
    /// A number that counts from 1, or back from the last argument, which is -1.
    Number(i64),
}

/// The part of the argument.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Whole,
    WithoutExtension,
    Name,
    Directory,
    NameWithoutExtension,
}

impl Template {
    /// Parses the words of a command. `each` is the placeholder for the input, usually `{}`.
    pub fn new(words: &[Vec<u8>], each: &[u8]) -> Template {
        let words: Vec<Word> = words.iter().map(|word| parts(word, each)).collect();
        let has_fields = words.iter().flatten().any(|part| !matches!(part, Part::Text(_)));
        Template { words, has_fields }
    }

    /// Appends the job's arguments as the last words if the command has no placeholder.
    pub fn ends_with_arguments(mut self, they_do: bool) -> Template {
        if they_do && !self.has_fields {
            self.words.push(vec![Part::Field(Which::Each, Form::Whole)]);
        }
        self
    }

    /// Returns whether every job runs the same program.
    pub fn has_fixed_program(&self) -> bool {
        self.words.first().is_some_and(|word| word.iter().all(|part| matches!(part, Part::Text(_))))
    }

    /// Returns whether the same job has the same words in every run.
    pub fn is_repeatable(&self) -> bool {
        !self.words.iter().flatten().any(|part| *part == Part::Slot)
    }

    /// Returns the words for one job. A word with `{}` is repeated for each argument.
    pub fn words(&self, job: &Job, slot: usize) -> Vec<Vec<u8>> {
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            if word.iter().any(|part| matches!(part, Part::Field(Which::Each, _))) {
                words.extend(job.arguments.iter().map(|each| filled_in(word, job, each, slot)));
            } else {
                words.push(filled_in(word, job, b"", slot));
            }
        }
        words
    }

    /// Returns the weight of the words.
    pub fn weight(&self) -> Weight {
        let mut weight = Weight { fixed: 0, each: 0, copies: 0 };
        let is_each = |part: &&Part| matches!(part, Part::Field(Which::Each, _));
        for word in &self.words {
            let text = |part: &Part| if let Part::Text(text) = part { text.len() } else { NUMBER_BYTES };
            let bytes = word.iter().filter(|part| !is_each(part)).map(text).sum::<usize>() + WORD_BYTES;
            match word.iter().filter(is_each).count() {
                0 => weight.fixed += bytes,
                copies => {
                    weight.each += bytes;
                    weight.copies += copies;
                }
            }
        }
        weight
    }
}

/// How many bytes the words of a command take on its command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// The bytes of the words without the arguments.
    pub fixed: usize,
    /// The bytes that each argument adds to its own, because the word around it is repeated.
    pub each: usize,
    /// How often each argument appears.
    pub copies: usize,
}

/// The longest number of a job or slot that is expected.
const NUMBER_BYTES: usize = 8;

fn filled_in(word: &Word, job: &Job, each: &[u8], slot: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for part in word {
        match part {
            Part::Text(plain) => text.extend_from_slice(plain),
            Part::JobNumber => text.extend_from_slice(job.number.to_string().as_bytes()),
            Part::Slot => text.extend_from_slice(slot.to_string().as_bytes()),
            Part::Field(Which::Each, form) => text.extend_from_slice(form.of(each)),
            Part::Field(Which::Number(number), form) => {
                text.extend_from_slice(form.of(job.argument(*number)))
            }
        }
    }
    text
}

impl Form {
    fn of(self, argument: &[u8]) -> &[u8] {
        match self {
            Form::Whole => argument,
            Form::WithoutExtension => without_extension(argument),
            Form::Name => name(argument),
            Form::Directory => directory(argument),
            Form::NameWithoutExtension => without_extension(name(argument)),
        }
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

fn without_extension(path: &[u8]) -> &[u8] {
    let start = path.len() - name(path).len();
    match name(path).iter().rposition(|&byte| byte == b'.') {
        Some(dot) if start + dot + 1 < path.len() => &path[..start + dot],
        _ => path,
    }
}

fn directory(path: &[u8]) -> &[u8] {
    let trim = |path: &[u8]| path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let path = &path[..trim(path).max(usize::from(path.starts_with(b"/")))];
    match path.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(slash) => match trim(&path[..slash]) {
            0 => b"/",
            end => &path[..end],
        },
    }
}

/// Parses a word.
fn parts(word: &[u8], each: &[u8]) -> Word {
    let (mut parts, mut text, mut rest) = (Vec::new(), Vec::new(), word);
    while let Some(&first) = rest.first() {
        match part(rest, each) {
            Some((found, length)) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(found);
                rest = &rest[length..];
            }
            None => {
                text.push(first);
                rest = &rest[1..];
            }
        }
    }
    if !text.is_empty() || parts.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

/// Returns the placeholder at the start of a text, and its length. Returns `None` for plain text.
fn part(text: &[u8], each: &[u8]) -> Option<(Part, usize)> {
    if !each.is_empty() && text.starts_with(each) {
        return Some((Part::Field(Which::Each, Form::Whole), each.len()));
    }
    let end = text.iter().position(|&byte| byte == b'}')?;
    let inner = std::str::from_utf8(text[..end].strip_prefix(b"{")?).ok()?;
    let part = match inner {
        "" => return None, // another word stands for the input
        "#" => Part::JobNumber,
        "%" => Part::Slot,
        _ => {
            let digits = inner.trim_end_matches(['.', '/']);
            let form = match &inner[digits.len()..] {
                "" => Form::Whole,
                "." => Form::WithoutExtension,
                "/" => Form::Name,
                "//" => Form::Directory,
                "/." => Form::NameWithoutExtension,
                _ => return None,
            };
            let which = match digits {
                "" => Which::Each,
                _ => Which::Number(digits.parse().ok().filter(|&n| n != 0 && !digits.starts_with('+'))?),
            };
            Part::Field(which, form)
        }
    };
    Some((part, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(words: &[&str], arguments: &[&str]) -> Vec<String> {
        let bytes = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_owned()).collect::<Vec<_>>();
        let job = Job { number: 7, arguments: bytes(arguments), ..Job::default() };
        let template = Template::new(&bytes(words), b"{}").ends_with_arguments(true);
        template.words(&job, 3).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn the_input_goes_where_the_braces_are_or_to_the_end() {
        assert_eq!(fill(&["a", "{}", "b{}c{}"], &["x y"]), ["a", "x y", "bx ycx y"]);
        assert_eq!(fill(&["a", "b"], &["x"]), ["a", "b", "x"]);
        assert_eq!(fill(&["a", "-{}-"], &["x", "y"]), ["a", "-x-", "-y-"]);
        assert_eq!(fill(&["a"], &["x", "y"]), ["a", "x", "y"]);
    }

    #[test]
    fn forms_of_paths() {
        let forms = |path: &str| fill(&["{.}", "{/}", "{//}", "{/.}"], &[path]);
        assert_eq!(forms("a/b.c/d.tar.gz"), ["a/b.c/d.tar", "d.tar.gz", "a/b.c", "d.tar"]);
        assert_eq!(forms("x"), ["x", "x", ".", "x"]);
        assert_eq!(forms("/x.y"), ["/x", "x.y", "/", "x"]);
        assert_eq!(forms("a.b/c"), ["a.b/c", "c", "a.b", "c"]);
        assert_eq!(forms("a//b/"), ["a//b/", "", "a", ""]);
        assert_eq!(forms("/"), ["/", "", "/", ""]);
        assert_eq!(forms("x."), ["x.", "x.", ".", "x."]);
    }

    #[test]
    fn numbers_and_columns() {
        assert_eq!(
            fill(&["{#}-{%}", "{2}{1}", "{-1}", "{3}", "{1/.}"], &["d/a.x", "b"]),
            ["7-3", "bd/a.x", "b", "", "a"]
        );
    }

    #[test]
    fn other_braces_are_text() {
        let plain = ["{", "}", "{a}", "{0}", "{1x}", "${x}", "{,}", "{///}", "{+1}"];
        assert_eq!(fill(&plain, &["y"])[..plain.len()], plain);
    }

    #[test]
    fn the_weight_is_that_of_the_words() {
        let words = ["cat", "{}", "to=x{}y{.}"].map(|word| word.as_bytes().to_vec());
        let weight = Template::new(&words, b"{}").weight();
        assert_eq!(weight, Weight { fixed: 3 + 9, each: 9 + 5 + 9, copies: 3 });
    }

    #[test]
    fn another_word_may_stand_for_the_input() {
        let template = Template::new(&[b"%%{}".to_vec()], b"%%").ends_with_arguments(true);
        let job = Job { arguments: vec![b"x".to_vec()], ..Job::default() };
        assert_eq!(template.words(&job, 1), [b"x{}".to_vec()]);
    }
}
