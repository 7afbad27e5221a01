//! `edge explain`: which route a request would take, and why.
//!
//! Room  the command line's request as the policy sees one; the policy itself is the running one's.

use edge::field::Field;
use edge::http1::is_authority;
use edge::policy::{Asked, Client, HttpVersion, Policy};
use edge::target;

use crate::cli::Explain;
use crate::config;

/// The explanation as text or JSON.
///
/// # Errors
/// The configuration's mistakes, or what is wrong with the request.
pub(crate) fn explain(asked: &Explain) -> Result<String, String> {
    let config = config::load(&asked.settings, &config::environment)
        .map_err(|mistakes| mistakes.to_string())?;
    let (is_tls, authority, path) = parts(&asked.url)?;
    let normal = target::normalise(&path)
        .map_err(|error| format!("the request would get a 400: {error}"))?;
    let headers = headers(&asked.headers)?;
    let fields: Vec<Field<'_>> = headers
        .iter()
        .map(|(name, value)| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
        })
        .collect();
    let listener = config
        .listeners
        .iter()
        .position(|l| l.tls.is_some() == is_tls);
    let place = |name: &str| {
        let found = config.upstreams.iter().position(|u| u.name == name);
        found.unwrap_or(usize::MAX)
    };
    let policy = Policy::new(&config, place);
    let listener = listener.unwrap_or(0);
    let client = Client {
        peer: asked.from,
        peer_port: 0,
        is_tls,
        listener,
        listener_port: config
            .listeners
            .get(listener)
            .map_or(0, |l| l.address.port()),
        covers_host: None,
    };
    let method = asked.method.to_ascii_uppercase();
    let request = Asked {
        method: &method,
        host: authority,
        path: &normal.path,
        query: normal.query,
        fields: &fields,
        version: HttpVersion::Http11,
        upgrade: None,
        body_length: None,
    };
    let explanation = policy.explain(&request, &client);
    if asked.json {
        return serde_json::to_string(&explanation).map_err(|error| error.to_string());
    }
    Ok(explanation.to_string().trim_end().to_owned())
}

/// Whether by TLS, to whom, and for what.
fn parts(url: &str) -> Result<(bool, &str, String), String> {
    let (is_tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => {
            return Err(format!(
                "{:?} is no URL; write it like https://app.example.com/path",
                url
            ));
        }
    };
    // A fragment stays in the browser.
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_authority(authority) {
        return Err(format!(
            "the request would get a 400: {authority:?} is no host"
        ));
    }
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok((is_tls, authority, path))
}

fn headers(written: &[String]) -> Result<Vec<(String, String)>, String> {
    let pair = |header: &String| {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("{header:?} is no header; write it like 'X-Name: value'"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    written.iter().map(pair).collect()
}
