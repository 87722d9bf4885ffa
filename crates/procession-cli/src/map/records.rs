//! [`Records`]: a stream of bytes, cut into inputs. [`rows`]: every combination of the inputs of several sources.

/// How a text is cut into inputs and columns.
#[derive(Clone, Debug)]
pub struct Cut {
    pub delimiter: u8,
    /// The separator of an input's columns.
    pub columns: Option<Vec<u8>>,
    pub skip_empty: bool,
}

/// The arguments made from one input.
pub type Row = Vec<Vec<u8>>;

impl Cut {
    /// Returns the columns of one input, or `None` if the input is skipped.
    pub fn row(&self, record: Vec<u8>) -> Option<Row> {
        if self.skip_empty && record.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        Some(match &self.columns {
            None => vec![record],
            Some(between) => columns(&record, between),
        })
    }
}

fn columns(record: &[u8], between: &[u8]) -> Row {
    let (mut columns, mut column) = (Vec::new(), Vec::new());
    let mut rest = record;
    while let Some(&first) = rest.first() {
        if rest.starts_with(between) {
            columns.push(std::mem::take(&mut column));
            rest = &rest[between.len()..];
        } else {
            column.push(first);
            rest = &rest[1..];
        }
    }
    columns.push(column);
    columns
}

/// Bytes that have been read and do not form a complete input yet.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// The length of the prefix that has no delimiter.
    seen: usize,
}

impl Records {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the complete inputs.
    pub fn take(&mut self, delimiter: u8) -> Vec<Vec<u8>> {
        let Some(last) = self.bytes[self.seen..].iter().rposition(|&byte| byte == delimiter) else {
            self.seen = self.bytes.len();
            return Vec::new();
        };
        let rest = self.bytes.split_off(self.seen + last + 1);
        let mut whole = std::mem::replace(&mut self.bytes, rest);
        self.seen = self.bytes.len();
        whole.pop();
        whole.split(|&byte| byte == delimiter).map(<[u8]>::to_vec).collect()
    }

    /// Takes the last input, which no delimiter ends.
    pub fn take_rest(&mut self) -> Option<Vec<u8>> {
        self.seen = 0;
        Some(std::mem::take(&mut self.bytes)).filter(|rest| !rest.is_empty())
    }
}

/// Returns every combination of one row of each source. The last source changes fastest.
pub fn rows(sources: Vec<Vec<Row>>) -> impl Iterator<Item = Row> {
    let all = sources.iter().map(Vec::len).product::<usize>();
    (0..all).map(move |number| {
        let mut left = number;
        let mut row = Vec::new();
        for source in sources.iter().rev() {
            row.push(&source[left % source.len()]);
            left /= source.len();
        }
        row.into_iter().rev().flatten().cloned().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        rows.into_iter().map(|row| String::from_utf8(row).unwrap()).collect()
    }

    #[test]
    fn inputs_arrive_whole_however_the_bytes_come() {
        let mut records = Records::default();
        let mut all = Vec::new();
        for piece in ["a", "b\n\nc", "", "d\ne\nf"] {
            records.push(piece.as_bytes());
            all.extend(text(records.take(b'\n')));
        }
        all.extend(text(records.take_rest()));
        assert_eq!(all, ["ab", "", "cd", "e", "f"]);
        assert_eq!(records.take_rest(), None);
    }

    #[test]
    fn columns_and_empty_inputs() {
        let cut = Cut { delimiter: b'\n', columns: Some(b", ".to_vec()), skip_empty: true };
        assert_eq!(text(cut.row(b"a, b,c, ".to_vec()).unwrap()), ["a", "b,c", ""]);
        assert_eq!(cut.row(b" ".to_vec()), None);
    }

    #[test]
    fn sources_are_combined() {
        let source =
            |words: &[&str]| words.iter().map(|word| vec![word.as_bytes().to_vec()]).collect::<Vec<_>>();
        let all = rows(vec![source(&["a", "b"]), source(&["1", "2"])]).map(|row| row.concat());
        assert_eq!(text(all), ["a1", "a2", "b1", "b2"]);
        assert_eq!(rows(vec![source(&["a"]), source(&[])]).count(), 0);
    }
}
