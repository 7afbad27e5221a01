//! Errors in the form that was asked for.

use proptest::prelude::*;

use super::{Form, error_answer, form, html, thousandths};
use crate::policy::RequestId;
use crate::settings::ErrorPages;

#[test]
fn forms() {
    for (accept, page, expected) in [
        (None, false, Form::Plain),
        (None, true, Form::Html),
        (Some(""), false, Form::Plain),
        (Some("*/*"), false, Form::Plain),
        (Some("*/*"), true, Form::Html),
        (
            Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            false,
            Form::Html,
        ),
        (Some("application/json"), true, Form::Json),
        (Some("Application/JSON; charset=utf-8"), false, Form::Json),
        (Some("application/problem+json"), false, Form::Json),
        (
            Some("text/html;q=0.5, application/json;q=0.9"),
            false,
            Form::Json,
        ),
        (
            Some("text/html;q=0.9, application/json;q=0.5"),
            false,
            Form::Html,
        ),
        (Some("application/json;q=0"), false, Form::Plain),
        (Some("text/plain, text/html"), false, Form::Plain),
        (Some("image/png"), false, Form::Plain),
    ] {
        assert_eq!(form(accept, page), expected, "{accept:?} {page}");
    }
}

#[test]
fn weights() {
    for (text, expected) in [
        ("1", 1000),
        ("0.5", 500),
        ("0.001", 1),
        ("0", 0),
        ("-1", 0),
        ("x", 0),
        ("NaN", 0),
        ("9", 1000),
    ] {
        assert_eq!(thousandths(text), expected, "{text}");
    }
}

#[test]
fn bodies() {
    let id = RequestId::given(b"id-1").expect("is good");
    let mut pages = ErrorPages::default();
    pages.html.insert(
        503,
        "<p>{status} {reason} {request_id} {other} {</p>".to_owned(),
    );
    for (status, accept, content_type, body) in [
        (
            404,
            None,
            "text/plain; charset=utf-8",
            "404 Not Found\nrequest id-1\n",
        ),
        (
            503,
            Some("text/html"),
            "text/html; charset=utf-8",
            "<p>503 Service Unavailable id-1 {other} {</p>",
        ),
        (
            429,
            Some("application/json"),
            "application/json",
            r#"{"error":{"reason":"Too Many Requests","request_id":"id-1","status":429}}"#,
        ),
        (
            599,
            None,
            "text/plain; charset=utf-8",
            "599 Error\nrequest id-1\n",
        ),
    ] {
        let answer = error_answer(status, "why", &pages, accept, &id);
        assert_eq!(
            (answer.status, answer.end, answer.content_type),
            (status, "why", content_type)
        );
        assert_eq!(answer.body, body);
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    }
    let built_in = error_answer(404, "why", &pages, Some("text/html"), &id);
    let built_in = String::from_utf8_lossy(&built_in.body).into_owned();
    assert!(
        built_in.contains("<h1>404 Not Found</h1>") && !built_in.contains('{'),
        "{built_in}"
    );
}

#[test]
fn what_is_filled_in_is_escaped() {
    let id = RequestId::given(b"a").expect("is good");
    assert_eq!(
        html("{reason}", 400, "<b>&\"'{status}", &id),
        "&lt;b&gt;&amp;&quot;&#39;{status}"
    );
}

proptest! {
    #[test]
    fn no_accept_and_no_page_panics(accept in any::<String>(), page in any::<String>()) {
        let id = RequestId::generated(1);
        let mut pages = ErrorPages::default();
        pages.html.insert(400, page);
        error_answer(400, "why", &pages, Some(&accept), &id);
    }
}
