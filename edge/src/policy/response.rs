//! A response's head on its way to the client.
//!
//! Room  pure.
//! Holds no field of the backend's connection passes; what a backend says about itself (Server, Date) stays. The
//!       framing fields are the engine's.

use crate::field::{Field, FieldSink};

use super::answer::Answer;
use super::cors::CompiledCors;
use super::forwarding::lists;
use super::names::{Kind, is_protected, is_usual_option, kind};
use super::security::Said;
use super::{Client, CompiledRoute, Policy, RequestId};

#[cfg(test)]
mod tests;

impl Policy {
    /// A backend's fields for the client. `origin` is the request's Origin.
    pub fn write_response_fields(
        &self,
        route: &CompiledRoute,
        client: &Client,
        origin: Option<&str>,
        request_id: &RequestId,
        fields: &[Field<'_>],
        sink: &mut impl FieldSink,
    ) {
        let changes = &route.response_changes;
        let listing = fields.iter().any(|field| {
            kind(field.name) == Kind::Connection
                && field
                    .value
                    .split(|byte| *byte == b',')
                    .any(|option| !is_usual_option(option.trim_ascii()))
        });
        let mut said = Said::default();
        let mut run = 0;
        for (index, field) in fields.iter().enumerate() {
            let name = field.name;
            let passes = match kind(name) {
                Kind::HopByHop | Kind::Connection | Kind::Alias | Kind::RequestId => false,
                _ => !(listing && lists(fields, name) && !is_protected(name)),
            };
            let passes = self.security.passes(name, client.is_tls, &mut said) && passes;
            let cors = route.cors.is_some() && CompiledCors::replaces(name);
            if !passes || cors || changes.replaces(name) {
                put_run(sink, &fields[run..index]);
                run = index + 1;
            }
        }
        put_run(sink, &fields[run..]);
        self.write_own(Some(route), client, origin, request_id, said, sink);
    }

    /// The proxy's own answer's fields: everything but framing and Date.
    pub fn write_answer_fields(
        &self,
        answer: &Answer,
        client: &Client,
        origin: Option<&str>,
        sink: &mut impl FieldSink,
    ) {
        if !answer.content_type.is_empty() {
            sink.put(b"content-type", answer.content_type.as_bytes());
        }
        for (name, value) in &answer.fields {
            sink.put(name.as_bytes(), value.as_bytes());
        }
        let decorated = answer.route.filter(|_| answer.end != "cors_preflight");
        let route = decorated.and_then(|index| self.routes.get(index));
        let said = Said::default();
        self.write_own(route, client, origin, &answer.request_id, said, sink);
    }

    /// What the proxy adds to every response.
    fn write_own(
        &self,
        route: Option<&CompiledRoute>,
        client: &Client,
        origin: Option<&str>,
        request_id: &RequestId,
        said: Said,
        sink: &mut impl FieldSink,
    ) {
        let mut sink = Unchanged { route, sink };
        if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
            cors.write(origin, &mut sink);
        }
        self.security.write(client.is_tls, said, &mut sink);
        sink.put(b"x-request-id", request_id.as_bytes());
        if let Some(route) = route {
            route.response_changes.write(sink.sink);
        }
    }
}

/// Leaves out what the route's changes remove or set anew.
struct Unchanged<'s, S> {
    route: Option<&'s CompiledRoute>,
    sink: &'s mut S,
}

impl<S: FieldSink> FieldSink for Unchanged<'_, S> {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        if !self
            .route
            .is_some_and(|route| route.response_changes.replaces(name))
        {
            self.sink.put(name, value);
        }
    }
}

fn put_run(sink: &mut impl FieldSink, run: &[Field<'_>]) {
    if !run.is_empty() {
        sink.put_run(run);
    }
}
