//! Words quoted for a shell, and texts in readable form.

/// Returns the words, quoted where a shell would split or change them.
pub fn command_line(words: &[Vec<u8>]) -> Vec<u8> {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&b' ')
}

fn quoted(word: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(byte) || *byte >= 0x80;
    if !word.is_empty() && word.iter().all(plain) {
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
    fn long_texts_are_shortened() {
        assert_eq!(excerpt(b"short\tone"), "short one");
        let long = excerpt(&[b'x'; 100_000]);
        assert_eq!((long.len(), long.ends_with("xx...")), (63, true));
    }
}
