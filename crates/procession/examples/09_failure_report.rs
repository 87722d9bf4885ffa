//! A report of what has failed: each result comes with the position of its input. A progress bar counts the
//! items that are done, failed and retried.

use std::time::Duration;

use procession::pool::{Pool, TaskError, progress_bar};

/// Counts the words of a text. Some texts are bad.
fn count_words(text: String) -> Result<usize, String> {
    match text.as_str() {
        "crash" => std::process::abort(), // as a bug in native code would
        "hang" => loop {
            std::thread::park();
        },
        "" => Err("there are no words".into()),
        text => Ok(text.split_whitespace().count()),
    }
}

fn reason(error: TaskError) -> String {
    match error {
        TaskError::WorkerDied { signal: Some(signal), attempt, .. } => {
            format!("killed by signal {signal} in attempt {attempt}")
        }
        TaskError::TimedOut { limit, .. } => format!("took more than {limit:?}"),
        other => other.to_string(),
    }
}

fn main() -> procession::Result<()> {
    let texts = ["to be or not to be", "crash", "that is the question", "", "hang", "the rest is silence"];
    let pool = Pool::builder().workers(3).retries(1).task_timeout(Duration::from_millis(200)).build()?;

    let (mut words, mut failures) = (0, Vec::new());
    let inputs = texts.map(String::from);
    for (index, result) in pool.with_progress(progress_bar()).imap_unordered(count_words, inputs).indexed() {
        match result {
            Ok(Ok(count)) => words += count,
            Ok(Err(why)) => failures.push((index, why)),
            Err(error) => failures.push((index, reason(error))),
        }
    }
    failures.sort();

    println!("{words} words in {} texts; {} failed:", texts.len() - failures.len(), failures.len());
    for (index, why) in failures {
        println!("text {index} ({:?}): {why}", texts[index]);
    }
    Ok(())
}
