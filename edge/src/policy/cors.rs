//! Cross-origin resource sharing (Fetch standard, section 3.2): who may read answers in a browser.
//!
//! Room  pure.
//! Holds an origin is allowed when it is listed byte by byte; `*` never goes together with credentials.

use crate::field::FieldSink;
use crate::settings::Cors;

use super::answer::Answer;

/// [`Cors`], made ready.
#[derive(Debug)]
pub(super) struct CompiledCors {
    any: bool,
    origins: Vec<String>,
    credentials: bool,
    methods: String,
    headers: String,
    expose: String,
    max_age: String,
}

impl CompiledCors {
    pub(super) fn new(cors: &Cors) -> Self {
        let any = cors.origins.iter().any(|origin| origin == "*");
        Self {
            any,
            origins: cors.origins.clone(),
            credentials: cors.credentials && !any,
            methods: if cors.methods.is_empty() {
                // What needs no preflight by its method anyway.
                "GET, HEAD, POST".to_owned()
            } else {
                cors.methods.join(", ")
            },
            headers: cors.headers.join(", "),
            expose: cors.expose.join(", "),
            max_age: cors.max_age.as_secs().to_string(),
        }
    }

    /// What stands in Access-Control-Allow-Origin.
    fn allowed<'o>(&self, origin: &'o str) -> Option<&'o str> {
        if self.any {
            return Some("*");
        }
        self.origins
            .iter()
            .any(|allowed| allowed == origin)
            .then_some(origin)
    }

    /// The answer to a preflight; an origin that is not allowed gets it without permission.
    pub(super) fn preflight(&self, origin: &str) -> Answer {
        let vary = "origin, access-control-request-method, access-control-request-headers";
        let mut answer = Answer::empty(204, "cors_preflight").with("vary", vary.to_owned());
        let Some(allowed) = self.allowed(origin) else {
            return answer;
        };
        let credentials = if self.credentials { "true" } else { "" };
        for (name, value) in [
            ("access-control-allow-origin", allowed),
            ("access-control-allow-methods", &self.methods),
            ("access-control-allow-headers", &self.headers),
            ("access-control-allow-credentials", credentials),
            ("access-control-max-age", &self.max_age),
        ] {
            if !value.is_empty() {
                answer = answer.with(name, value.to_owned());
            }
        }
        answer
    }

    /// Whether a backend's field gives way to ours.
    pub(super) fn replaces(name: &[u8]) -> bool {
        const PREFIX: &[u8] = b"access-control-";
        name.get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }

    /// Fields of an answer to a request with this Origin.
    pub(super) fn write(&self, origin: Option<&str>, sink: &mut impl FieldSink) {
        if !self.any {
            // Also without Origin: a cache must not give this answer to another origin.
            sink.put(b"vary", b"origin");
        }
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else {
            return;
        };
        sink.put(b"access-control-allow-origin", allowed.as_bytes());
        if self.credentials {
            sink.put(b"access-control-allow-credentials", b"true");
        }
        if !self.expose.is_empty() {
            sink.put(b"access-control-expose-headers", self.expose.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::CompiledCors;
    use crate::settings::Cors;

    fn cors(origins: &[&str]) -> CompiledCors {
        CompiledCors::new(&Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: vec!["content-type".to_owned()],
            expose: vec!["x-total".to_owned()],
            credentials: true,
            max_age: Duration::from_secs(600),
        })
    }

    fn written(cors: &CompiledCors, origin: Option<&str>) -> String {
        let mut head = Vec::new();
        cors.write(origin, &mut head);
        String::from_utf8(head).expect("is text")
    }

    #[test]
    fn answers_say_who_may_read_them() {
        let listed = cors(&["https://a.example"]);
        assert_eq!(
            written(&listed, Some("https://a.example")),
            "vary: origin\r\naccess-control-allow-origin: https://a.example\r\n\
             access-control-allow-credentials: true\r\naccess-control-expose-headers: x-total\r\n"
        );
        for other in [
            None,
            Some("https://A.example"),
            Some("https://a.example.evil"),
            Some("null"),
            Some(""),
        ] {
            assert_eq!(written(&listed, other), "vary: origin\r\n", "{other:?}");
        }
        assert_eq!(
            written(&cors(&["*"]), Some("https://b.example")),
            "access-control-allow-origin: *\r\naccess-control-expose-headers: x-total\r\n",
            "no credentials with *"
        );
    }

    #[test]
    fn preflights() {
        let answer = cors(&["https://a.example"]).preflight("https://a.example");
        assert_eq!(answer.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "content-type"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(answer.field(name), Some(value));
        }
        let refused = cors(&["https://a.example"]).preflight("https://b.example");
        assert_eq!(refused.fields.len(), 1, "only vary: {refused:?}");
        let any = cors(&["*"]).preflight("https://b.example");
        assert_eq!(any.field("access-control-allow-origin"), Some("*"));
        assert_eq!(any.field("access-control-allow-credentials"), None);
    }
}
