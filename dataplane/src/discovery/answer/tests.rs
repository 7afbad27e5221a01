//! Which answers make a set, and which are refused with what words.

use proptest::prelude::*;

use super::{Discovered, ID_BYTES_MAX, parse_backends};
use crate::upstream::BackendSpec;

fn plain(label: &str) -> Discovered {
    Discovered {
        upstream: None,
        spec: BackendSpec {
            id: None,
            label: label.to_owned(),
            weight: 1,
            max_connections: None,
            drain: false,
        },
    }
}

#[test]
fn a_backend_is_written_in_several_ways() {
    for (object, label) in [
        (r#"{"address": "10.0.0.7:80"}"#, "10.0.0.7:80"),
        (r#"{"address": "[fd00::1]:80"}"#, "[fd00::1]:80"),
        (r#"{"address": "App.Internal:80"}"#, "app.internal:80"),
        (r#"{"ip": "10.0.0.7", "port": 80}"#, "10.0.0.7:80"),
        (r#"{"ip": "fd00::1", "port": 80}"#, "[fd00::1]:80"),
        (r#"{"host": "app.internal", "port": 80}"#, "app.internal:80"),
        (
            r#"{"ip": "10.0.0.7", "host": "app", "port": 80}"#,
            "10.0.0.7:80",
        ),
        (r#"{"address": null, "host": "app", "port": 80}"#, "app:80"),
        (
            r#"{"address": "a:80", "ip": "10.0.0.7", "port": 81}"#,
            "a:80",
        ),
        (
            r#"{"address": "a:80", "id": null, "weight": null, "drain": null, "status": "running"}"#,
            "a:80",
        ),
        (
            r#"{"address": "a:80", "zone": {"name": "x"}, "since": 12}"#,
            "a:80",
        ),
    ] {
        for answer in [
            format!("[{object}]"),
            format!("{{\"version\": 9, \"backends\": [{object}]}}"),
        ] {
            let set = parse_backends(answer.as_bytes()).expect(&answer);
            assert_eq!(set, [plain(label)], "{answer}");
        }
    }
}

#[test]
fn everything_the_operator_says_of_a_backend_arrives() {
    let answer = br#"[{"id": "i-7", "address": "10.0.0.7:80", "weight": 256, "upstream": "app",
                       "max_connections": 500, "drain": true},
                      {"id": "i-7", "address": "10.0.0.7:80", "upstream": "api", "status": "Draining"}]"#;
    let set = parse_backends(answer).expect("a set");
    let first = BackendSpec {
        id: Some("i-7".to_owned()),
        label: "10.0.0.7:80".to_owned(),
        weight: 256,
        max_connections: Some(500),
        drain: true,
    };
    let second = BackendSpec {
        weight: 1,
        max_connections: None,
        ..first.clone()
    };
    assert_eq!(
        set,
        [
            Discovered {
                upstream: Some("app".to_owned()),
                spec: first
            },
            Discovered {
                upstream: Some("api".to_owned()),
                spec: second
            },
        ]
    );
}

#[test]
fn no_backends_must_be_said_explicitly() {
    for answer in ["[]", " [ ]\n", "{\"backends\": []}"] {
        assert_eq!(
            parse_backends(answer.as_bytes()).expect(answer),
            [],
            "{answer}"
        );
    }
    for answer in [
        "",
        "{}",
        "null",
        "{\"backends\": null}",
        "{\"backends\": {}}",
        "\"\"",
        "0",
    ] {
        assert!(parse_backends(answer.as_bytes()).is_err(), "{answer}");
    }
}

/// An answer whose second backend is this object must be refused with these words.
fn assert_refused(object: &str, words: &str) {
    let answer = format!("[{{\"address\": \"good:80\"}}, {object}]");
    let error = parse_backends(answer.as_bytes()).expect_err(&answer);
    let error = error.to_string();
    assert!(
        error.contains(words) && error.contains("backend 1"),
        "{answer}: {error}"
    );
}

#[test]
fn one_backend_without_a_usable_address_refuses_the_answer() {
    for (object, words) in [
        ("7", "is not an object"),
        ("{}", "has no address"),
        (r#"{"host": "app"}"#, "has no address"),
        (r#"{"port": 80}"#, "has no address"),
        (r#"{"address": 7}"#, "address is not a string"),
        (
            r#"{"address": "app"}"#,
            "\"app\" is not a backend's address",
        ),
        (r#"{"address": "10.0.0.7:0"}"#, "has port 0"),
        (
            r#"{"address": "10.0.0.7:65536"}"#,
            "is not a backend's address",
        ),
        (r#"{"address": "0.0.0.0:80"}"#, "unspecified address"),
        (
            r#"{"address": "http://app:80"}"#,
            "is not a backend's address",
        ),
        (r#"{"address": "a\r\nb:80"}"#, "is not a backend's address"),
        (r#"{"address": ""}"#, "a backend's address"),
        (
            r#"{"host": "app:80", "port": 80}"#,
            "is not a backend's address",
        ),
        (
            r#"{"host": "app", "port": 0}"#,
            "port is not a number from 1 to 65535",
        ),
        (r#"{"host": "app", "port": "80"}"#, "port is not a number"),
        (r#"{"host": "app", "port": -80}"#, "port is not a number"),
        (r#"{"host": "app", "port": 80.5}"#, "port is not a number"),
    ] {
        assert_refused(object, words);
    }
}

#[test]
fn one_wrong_field_refuses_the_answer() {
    for (object, words) in [
        (
            r#"{"address": "a:80", "weight": 0}"#,
            "weight is not a number from 1 to 256",
        ),
        (
            r#"{"address": "a:80", "weight": 257}"#,
            "weight is not a number",
        ),
        (
            r#"{"address": "a:80", "weight": 1e99}"#,
            "weight is not a number",
        ),
        (
            r#"{"address": "a:80", "max_connections": 0}"#,
            "max_connections is not a number from 1",
        ),
        (
            r#"{"address": "a:80", "drain": "yes"}"#,
            "drain is not true or false",
        ),
        (
            r#"{"address": "a:80", "status": 3}"#,
            "status is not a string",
        ),
        (
            r#"{"address": "a:80", "id": ""}"#,
            "id is not 1 to 128 printable",
        ),
        (
            r#"{"address": "a:80", "id": "a b"}"#,
            "id is not 1 to 128 printable",
        ),
        (
            r#"{"address": "a:80", "id": "a\nb"}"#,
            "id is not 1 to 128 printable",
        ),
        (r#"{"address": "a:80", "id": 12}"#, "id is not a string"),
        (
            r#"{"address": "a:80", "upstream": []}"#,
            "upstream is not a string",
        ),
    ] {
        assert_refused(object, words);
    }
    let long = "x".repeat(ID_BYTES_MAX + 1);
    assert_refused(
        &format!("{{\"address\": \"a:80\", \"id\": \"{long}\"}}"),
        "id is not 1 to 128",
    );
}

#[test]
fn an_id_means_one_backend_of_an_upstream() {
    for object in [
        r#"{"address": "good:80"}"#,
        r#"{"address": "good:80", "upstream": "app"}"#,
        r#"{"id": "good:80", "address": "other:80"}"#,
    ] {
        assert_refused(object, "listed twice: \"good:80\", also backend 0");
    }
    for (answer, fits) in [
        (
            r#"[{"upstream": "a", "address": "x:80"}, {"upstream": "b", "address": "x:80"}]"#,
            true,
        ),
        (
            r#"[{"id": "1", "address": "x:80"}, {"id": "2", "address": "x:80"}]"#,
            true,
        ),
        (
            r#"[{"upstream": "a", "address": "x:80"}, {"address": "x:80"}]"#,
            false,
        ),
        (
            r#"[{"upstream": "a", "address": "x:80"}, {"upstream": "a", "address": "x:80"}]"#,
            false,
        ),
    ] {
        assert_eq!(parse_backends(answer.as_bytes()).is_ok(), fits, "{answer}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let deep = "[".repeat(100_000);
    for answer in [
        "<html>502</html>",
        "[{\"address\": \"a:80\"}",
        "[] []",
        "[\u{0}]",
        &deep,
    ] {
        let error = parse_backends(answer.as_bytes())
            .expect_err("no JSON")
            .to_string();
        assert!(
            error.starts_with("the operator's answer is not JSON"),
            "{error}"
        );
    }
    assert!(
        parse_backends(b"[{\"address\": \"\xFF:80\"}]").is_err(),
        "no UTF-8"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = parse_backends(&bytes);
    }

    #[test]
    fn a_set_has_only_what_can_be_used(
        answer in r#"\[(\{"(address|id|host|port)":("[a-z.:0-9]{0,9}"|[0-9]{1,6}),"port":[0-9]{1,5},"host":"[a-z]{1,3}"\},?){0,4}\]"#
    ) {
        for one in parse_backends(answer.as_bytes()).unwrap_or_default() {
            let (host, port) = one.spec.label.rsplit_once(':').expect("a port");
            prop_assert!(!host.is_empty());
            prop_assert!(port.parse::<u16>().expect("a number") > 0);
        }
    }
}
