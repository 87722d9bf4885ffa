//! Words quoted for a shell, and texts in readable form.

/// Returns the words, quoted where a shell would split or change them.
pub fn command_line(words: &[Vec<u8>]) -> Vec<u8> {
    // A shell takes a first word with `=` for an assignment.
    let is_assignment = |(place, word): (usize, &[u8])| place == 0 && word.contains(&b'=');
    let words = words.iter().map(Vec::as_slice).enumerate();
    words.map(|word| quoted(word.1, is_assignment(word))).collect::<Vec<_>>().join(&b' ')
}

fn quoted(word: &[u8], always: bool) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(byte) || *byte >= 0x80;
    // Z shell replaces a word that starts with `=` by the path of a program.
    if !always && !word.is_empty() && word[0] != b'=' && word.iter().all(plain) {
        return word.to_owned();
    }
    let mut text = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => text.extend_from_slice(br"'\''"),
            _ => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

/// Returns the words of a command line after a shell has removed the quotes. Returns `None` if a quote is not closed.
pub fn unquoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word, mut bytes) = (Vec::new(), None::<Vec<u8>>, line.iter().copied());
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match byte {
            b'\\' => word.push(bytes.next()?),
            b'\'' | b'"' => loop {
                match bytes.next()? {
                    end if end == byte => break,
                    b'\\' if byte == b'"' => match bytes.next()? {
                        plain @ (b'"' | b'\\' | b'$' | b'`') => word.push(plain),
                        other => word.extend([b'\\', other]),
                    },
                    plain => word.push(plain),
                }
            },
            _ => word.push(byte),
        }
    }
    words.extend(word);
    Some(words)
}

/// Returns a text of any bytes and any length as an excerpt for one line of a message.
pub fn excerpt(text: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(text);
    let mut characters = text.chars();
    let mut short: String =
        characters.by_ref().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if characters.next().is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let line = |words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_owned()).collect();
            String::from_utf8(command_line(&words)).unwrap()
        };
        assert_eq!(line(&["echo", "a-b/c.d", "ü"]), "echo a-b/c.d ü");
        assert_eq!(line(&["echo", "", "a b", "it's", "$x", "*"]), r"echo '' 'a b' 'it'\''s' '$x' '*'");
    }

    #[test]
    fn words_with_an_equals_sign_are_quoted_where_a_shell_understands_it() {
        let line = |words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_owned()).collect();
            String::from_utf8(command_line(&words)).unwrap()
        };
        assert_eq!(line(&["echo", "=ls", "a=b", "--c=d"]), "echo '=ls' a=b --c=d");
        assert_eq!(line(&["A=b", "c"]), "'A=b' c");
    }

    #[test]
    fn quotes_are_removed_as_by_a_shell() {
        let words = |line: &str| {
            let words = unquoted(line.as_bytes())?;
            Some(words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>().join("|"))
        };
        let removed = words(r#"a 'b  c' 'it'"'"'s' "x\"\y" d\ e '' ü"#);
        assert_eq!(removed.as_deref(), Some(r#"a|b  c|it's|x"\y|d e||ü"#));
        assert_eq!(words("a\\"), None);
        assert_eq!(words("'a"), None);
        let all: Vec<Vec<u8>> =
            [&b"it's"[..], b"a\nb", b"", b"\xff\\ \"", b"=x"].map(<[u8]>::to_vec).to_vec();
        assert_eq!(unquoted(&command_line(&all)), Some(all));
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(excerpt(b"short\tone"), "short one");
        let long = excerpt(&[b'x'; 100_000]);
        assert_eq!((long.len(), long.ends_with("xx...")), (63, true));
    }
}
