//! The name of a process that was not given one: the name of its function, or the place of its closure.

use std::borrow::Cow;
use std::panic::Location;

use crate::arena::objects::check_name;
use crate::supervisor::child::CLOSURE;

/// Returns the name of the function `F`; for a closure, the file and line of the call that spawns it.
pub(super) fn of_function<F>(place: &Location<'_>) -> Cow<'static, str> {
    let path = std::any::type_name::<F>();
    let name = if path.ends_with("{{closure}}") {
        Cow::Owned(of_place(place))
    } else {
        Cow::Borrowed(last_part(without_generics(path)))
    };
    if check_name(&name).is_ok() { name } else { Cow::Borrowed("process") }
}

/// Returns a name such as `closure@main.rs:12`.
fn of_place(place: &Location<'_>) -> String {
    let file = place.file();
    let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
    format!("{CLOSURE}{file}:{}", place.line())
}

/// Returns `shop::sell` of `shop::sell<alloc::string::String>`.
fn without_generics(path: &str) -> &str {
    let mut depth = 0;
    // Search from the end, so that `<Till as Shop>::sell` keeps its name. The `>` of `fn() -> u8` is not a
    // bracket.
    for (at, byte) in path.bytes().enumerate().rev() {
        match byte {
            b'>' if at > 0 && path.as_bytes()[at - 1] == b'-' => {}
            b'>' => depth += 1,
            b'<' => depth -= 1,
            _ if depth == 0 => return path[..=at].trim_end_matches("::"),
            _ => {}
        }
    }
    path
}

/// Returns `buy` of `shop::till::buy`.
fn last_part(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}
