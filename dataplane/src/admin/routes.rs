//! Which answer belongs to which method and path.
//!
//! Room  pure but for what the handlers do.
//! Holds an unknown path is a 404, a known path with another method a 405 that names the right one; both
//!       as JSON.

use std::fmt;

use serde::Serialize;

/// What a client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The segments that stand for `{…}` in the route, percent-decoded.
    pub parameters: Vec<String>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// The `Allow` header of a 405.
    pub allow: Option<&'static str>,
}

impl Answer {
    /// A JSON body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(mut body) => {
                body.push('\n');
                Self::new(status, "application/json", body)
            }
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: String) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// Prometheus text, version 0.0.4.
    pub fn exposition(body: String) -> Self {
        Self::new(200, "text/plain; version=0.0.4; charset=utf-8", body)
    }

    /// `{"error": …}`.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "error": message }).to_string();
        Self::new(status, "application/json", body + "\n")
    }

    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
            allow: None,
        }
    }
}

type Handler = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

struct Route {
    method: Method,
    pattern: &'static str,
    handler: Handler,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
}

impl Method {
    fn allows(self, method: &str) -> bool {
        match self {
            // hyper leaves the body of an answer to HEAD out.
            Self::Get => method == "GET" || method == "HEAD",
            Self::Post => method == "POST",
        }
    }

    fn allow_header(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }
}

/// The routes of a binary.
#[derive(Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Answers GET and HEAD of `pattern`; a segment `{…}` stands for any one segment.
    #[must_use]
    pub fn get(
        self,
        pattern: &'static str,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.with(Method::Get, pattern, Box::new(handler))
    }

    /// Answers POST of `pattern`.
    #[must_use]
    pub fn post(
        self,
        pattern: &'static str,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.with(Method::Post, pattern, Box::new(handler))
    }

    /// The answer; always one.
    pub fn answer(&self, method: &str, path: &str) -> Answer {
        let mut other = None;
        for route in &self.0 {
            let Some(parameters) = matched(route.pattern, path) else {
                continue;
            };
            if route.method.allows(method) {
                return (route.handler)(&Asked { parameters });
            }
            other = Some(route.method);
        }
        match other {
            Some(allowed) => Answer {
                allow: Some(allowed.allow_header()),
                ..Answer::error(
                    405,
                    &format!(
                        "{method} is not possible here; use {}",
                        allowed.allow_header()
                    ),
                )
            },
            None => Answer::error(404, "no such path; see docs/configuration.md, Admin HTTP"),
        }
    }

    fn with(mut self, method: Method, pattern: &'static str, handler: Handler) -> Self {
        self.0.push(Route {
            method,
            pattern,
            handler,
        });
        self
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|route| route.pattern))
            .finish()
    }
}

/// The parameters, if the path fits; one `/` at the end is forgiven.
fn matched(pattern: &str, path: &str) -> Option<Vec<String>> {
    let path = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    };
    let mut parameters = Vec::new();
    let mut segments = path.split('/');
    for part in pattern.split('/') {
        let segment = segments.next()?;
        if part.starts_with('{') {
            parameters.push(percent_decoded(segment)?);
        } else if part != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(parameters)
}

/// RFC 3986 section 2.1; `None` for a broken escape or bytes that are no UTF-8.
fn percent_decoded(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Routes};

    fn routes() -> Routes {
        Routes::default()
            .get("/health", |_| Answer::json(200, &"fine"))
            .post("/backends/{id}/drain", |asked| {
                Answer::text(200, asked.parameters.join("|"))
            })
    }

    #[test]
    fn a_path_finds_its_handler_and_its_parameters() {
        assert_eq!(routes().answer("GET", "/health").body, "\"fine\"\n");
        assert_eq!(routes().answer("HEAD", "/health/").status, 200);
        let drained = routes().answer("POST", "/backends/127.0.0.1%3A80/drain");
        assert_eq!(drained.body, "127.0.0.1:80");
    }

    #[test]
    fn what_is_unknown_or_misused_is_told_as_json() {
        let unknown = routes().answer("GET", "/healthy");
        assert_eq!(
            (unknown.status, unknown.content_type),
            (404, "application/json")
        );
        let misused = routes().answer("GET", "/backends/a/drain");
        assert_eq!((misused.status, misused.allow), (405, Some("POST")));
        assert_eq!(
            routes().answer("DELETE", "/health").allow,
            Some("GET, HEAD")
        );
        for path in [
            "",
            "/",
            "//",
            "/backends//drain/x",
            "/backends/%zz/drain",
            "/backends/%f",
        ] {
            assert_eq!(routes().answer("POST", path).status, 404, "{path}");
        }
    }
}
