//! Arguments and results: which values can be sent, and that they arrive unchanged.
#![allow(unsafe_code, reason = "registers a C exit handler")]

use crate::family::*;
use procession::{Failure, Process};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Goods {
    Nothing,
    Apples(u32),
    Crate { name: String, weights: Vec<f64>, inner: Option<Box<Goods>> },
}

fn spawned<R: procession::Message>(
    f: impl procession::process::Entry<(), Output = R>,
) -> Result<R, procession::ProcessError> {
    Process::spawn(f, ()).expect("it starts").join()
}

#[test]
fn join_returns_the_value() {
    let _dog = watched();
    assert_eq!(spawned(|| ()), Ok(()));
    assert_eq!(spawned(|| u64::MAX), Ok(u64::MAX));
    assert_eq!(spawned(|| i128::MIN), Ok(i128::MIN));
    assert_eq!(spawned(|| -0.5f32), Ok(-0.5));
    assert_eq!(spawned(|| true), Ok(true));
    assert_eq!(spawned(|| 'ß'), Ok('ß'));
    assert_eq!(spawned(|| "naïve".to_string()), Ok("naïve".to_string()));
    assert_eq!(spawned(String::new), Ok(String::new()));
    assert_eq!(spawned(|| vec![0u8, 255, 7]), Ok(vec![0, 255, 7]));
    assert_eq!(spawned(Vec::<u8>::new), Ok(vec![]));
    assert_eq!(spawned(|| (1u8, Some("x".to_string()), [2u16, 3])), Ok((1, Some("x".to_string()), [2, 3])));
    let nested =
        Goods::Crate { name: "a".into(), weights: vec![1.5], inner: Some(Box::new(Goods::Apples(3))) };
    assert_eq!(Process::spawn(|goods: Goods| goods, (nested.clone(),)).unwrap().join(), Ok(nested));
    assert_eq!(spawned(|| Goods::Nothing), Ok(Goods::Nothing));
}

#[test]
fn a_function_has_up_to_eight_arguments() {
    let _dog = watched();
    #[allow(clippy::too_many_arguments)]
    fn all(a: u8, b: u16, c: u32, d: u64, e: String, f: Vec<u8>, g: (i8, bool), h: Option<char>) -> String {
        format!("{a} {b} {c} {d} {e} {f:?} {g:?} {h:?}")
    }
    let args = (1, 2, 3, 4, "five".to_string(), vec![6], (7, true), Some('8'));
    let text = Process::spawn(all, args).unwrap().join().unwrap();
    assert_eq!(text, "1 2 3 4 five [6] (7, true) Some('8')");
    assert_eq!(Process::spawn(|a: u8, b: u8| a - b, (3, 1)).unwrap().join(), Ok(2));
    assert_eq!(Process::spawn(|a: String| a.len(), ("abc".to_string(),)).unwrap().join(), Ok(3));
}

#[test]
fn an_err_is_a_value_with_an_exit_status_of_one() {
    let _dog = watched();
    let p = Process::spawn(|n: u32| n.checked_sub(5).ok_or("too few".to_string()), (3,)).unwrap();
    assert_eq!(p.join(), Ok(Err("too few".to_string())));
    assert_eq!(p.exit_status().and_then(|s| s.code()), Some(1));
    let p = Process::spawn(|n: u32| n.checked_sub(5).ok_or("too few".to_string()), (7,)).unwrap();
    assert_eq!(p.join(), Ok(Ok(2)));
    assert_eq!(p.exit_status().and_then(|s| s.code()), Some(0));
    let p = Process::spawn(|| -> procession::Result<()> { Err(procession::Error::other("no")) }, ()).unwrap();
    assert_eq!(p.join(), Ok(Err(procession::Error::other("no"))));
    let p = Process::spawn(|| -> procession::Result<u8> { Ok(std::fs::read("/does/not/exist")?[0]) }, ())
        .unwrap();
    assert!(p.join().unwrap().unwrap_err().to_string().contains("No such file"));
    assert_eq!(p.exit_status().and_then(|s| s.code()), Some(1));
}

#[test]
fn arguments_and_results_of_64_mib_arrive() {
    let _dog = watched();
    const LEN: usize = 64 << 20;
    let pattern: Vec<u8> = (0..65_521u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut bytes = pattern.repeat(LEN / pattern.len());
    bytes.resize(LEN, 7);
    let back = Process::spawn(
        |mut bytes: Vec<u8>| {
            bytes.push(9);
            bytes
        },
        (bytes.clone(),),
    );
    let back = back.unwrap().join().unwrap();
    bytes.push(9);
    assert!(back == bytes, "64 MiB came back changed");
    let text = "ÿ".repeat(LEN / 2);
    let back = Process::spawn(|text: String, more: u8| text + &more.to_string(), (text.clone(), 7)).unwrap();
    assert!(back.join().unwrap() == text + "7", "64 MiB of text came back changed");
}

/// Returns the reason why a result could not be decoded, and the text that shows the result.
#[track_caller]
fn undecodable(error: &procession::ProcessError) -> (String, String) {
    let Failure::Undecodable { why, text } = error.failure() else { panic!("{error}") };
    assert!(error.to_string().contains(why) && error.to_string().contains(text), "{error}");
    (why.clone(), text.clone())
}

/// A type as programmers often define it for JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Order { goods: String, count: Option<u32>, weights: Vec<f32>, by: (char, bool), of: Goods },
    Map(std::collections::BTreeMap<i64, ()>),
    Text(String),
}

#[test]
fn a_result_that_cannot_be_decoded_is_shown_as_text() {
    let _dog = watched();
    let order = || Untagged::Order {
        goods: "ap\"ples".into(),
        count: Some(3),
        weights: vec![1.5, -0.0],
        by: ('ß', true),
        of: Goods::Crate { name: String::new(), weights: vec![], inner: Some(Box::new(Goods::Apples(7))) },
    };
    let (why, text) = undecodable(&spawned(order).err().expect("the result cannot be decoded"));
    assert!(why.contains("Untagged"), "{why}");
    let expected = r#"Untagged { goods: "ap\"ples", count: Some(3), weights: [1.5, -0.0], by: ('ß', true), of: Crate { name: "", weights: [], inner: Some(Apples(7)) } }"#;
    assert_eq!(text.replace("Order {", "Untagged {"), expected);
    let map = || Untagged::Map([(-1, ()), (2, ())].into());
    assert_eq!(undecodable(&spawned(map).err().expect("the result cannot be decoded")).1, "{-1: (), 2: ()}");
    let json = || serde_json::json!({"a": [true, null, "ü"]});
    let (_, text) = undecodable(&spawned(json).expect_err("the result cannot be decoded"));
    assert_eq!(text, r#"{"a": [true, (), "ü"]}"#);
    // The library frees a lock in the result, and truncates long text.
    let long = || (procession::Lock::new().unwrap(), Untagged::Text("ü".repeat(100_000)));
    let (_, text) = undecodable(&spawned(long).err().expect("it does not arrive"));
    assert!(text.len() < 1100, "{text}");
    assert!(text.ends_with('…') && text.contains("üüü") || text.starts_with("b\""), "{text}");
}

/// Wherever a value of such a type is sent or stored, the error names the type, and lists the serde
/// attributes that do not survive.
#[test]
fn the_error_is_the_same_wherever_a_value_does_not_arrive() {
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Order { goods: u32 },
    }
    #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Key {
        Number(u32),
    }
    let _dog = watched();
    let order = Tagged::Order { goods: 3 };
    let queue = procession::Queue::bounded(1).unwrap();
    let (dict, keys) = (procession::Dict::new().unwrap(), procession::Dict::<Key, u32>::new().unwrap());
    let (end, _other) = procession::pipe::<Tagged, Tagged>().unwrap();
    let pool = procession::Pool::new(1).unwrap();
    let texts = [
        Process::spawn(|_: Tagged| (), (order.clone(),)).unwrap_err().to_string(),
        spawned(|| Tagged::Order { goods: 3 }).err().expect("it does not arrive").to_string(),
        queue.put(order.clone()).unwrap_err().to_string(),
        end.send(order.clone()).unwrap_err().to_string(),
        dict.insert(&1, order.clone()).map(drop).unwrap_err().to_string(),
        procession::state::List::from_items([order.clone()]).map(drop).unwrap_err().to_string(),
        procession::Value::new(order).map(drop).unwrap_err().to_string(),
        pool.submit(|| Tagged::Order { goods: 3 }, ()).and_then(|task| task.get()).err().unwrap().to_string(),
    ];
    for text in &texts {
        assert!(text.contains("a value of type") && text.contains("Tagged"), "{text}");
        assert!(text.contains("`tag`, `flatten` and `skip_serializing_if` do not survive"), "{text}");
        assert!(text.contains("asks what type comes next"), "{text}");
    }
    let key = keys.get(&Key::Number(1));
    assert!(key.is_ok(), "a key is encoded to be compared and not decoded: {key:?}");
}

#[test]
fn a_value_that_cannot_be_decoded_is_an_error() {
    #[derive(Debug, Serialize)]
    struct OneWay(u8);
    impl<'de> Deserialize<'de> for OneWay {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<OneWay, D::Error> {
            Err(serde::de::Error::custom("never again"))
        }
    }
    struct NoWay;
    impl Serialize for NoWay {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not at all"))
        }
    }
    impl<'de> Deserialize<'de> for NoWay {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<NoWay, D::Error> {
            Ok(NoWay)
        }
    }
    let _dog = watched();
    let refused = Process::spawn(|_: NoWay| (), (NoWay,)).expect_err("arguments that cannot be encoded");
    assert!(matches!(refused, procession::Error::Message(_)), "{refused:?}");
    let result = Process::spawn(|| OneWay(1), ()).unwrap();
    let told = undecodable(&result.join().unwrap_err());
    assert!(told.0.contains("OneWay") && told.1 == "OneWay(1)", "{told:?}");
    assert_eq!(result.exit_status().and_then(|s| s.code()), Some(1));
    let told = undecodable(
        &Process::spawn(|| NoWay, ()).unwrap().join().err().expect("the result cannot be encoded"),
    );
    assert!(told.0.contains("NoWay") && told.1 == "…", "{told:?}");
    let arguments = Process::spawn(|_: OneWay| (), (OneWay(1),)).and_then(|p| Ok(p.join()?));
    assert!(arguments.is_err(), "arguments that cannot be decoded");
}
