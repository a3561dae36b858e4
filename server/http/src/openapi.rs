//! The API as OpenAPI 3.1, made of the route table and of the forms' own schemas.
//!
//! `docs/openapi.json` is the same text, so that a change of the API is seen in a change of that file; a test holds
//! them together.

use coffer_core_admin as forms;
use coffer_core_admin::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::gate::Needs;
use crate::routes::{Form, ROUTES, Route};

/// The document.
pub(crate) fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// A body of the KBS protocol, which `core/protocol` has as a type without a schema.
fn protocol() -> Value {
    let text = json!({"type": "string"});
    let anything = json!({});
    let counter = json!({"type": "object", "required": ["number", "mark"], "properties": {
        "number": {"type": "integer", "minimum": 0}, "mark": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}});
    json!({
        "AuthRequest": {"type": "object", "required": ["version", "tee"], "properties": {
            "version": {"type": "string", "examples": ["0.4.0"]}, "tee": text, "extra-params": anything}},
        "Challenge": {"type": "object", "required": ["nonce", "extra-params"], "properties": {
            "nonce": {"type": "string", "contentEncoding": "base64"}, "extra-params": anything}},
        "AttestRequest": {"type": "object", "required": ["runtime-data", "tee-evidence"], "properties": {
            "init-data": {"type": ["object", "null"], "properties": {"format": text, "body": text}},
            "runtime-data": {"type": "object", "required": ["nonce", "tee-pubkey"], "properties": {
                "nonce": text, "tee-pubkey": {"type": "object"}}},
            "tee-evidence": {"type": "object", "required": ["primary_evidence", "additional_evidence"], "properties": {
                "primary_evidence": anything, "additional_evidence": text}}}},
        "AttestResponse": {"type": "object", "required": ["token"], "properties": {
            "token": text, "verdict": {"type": "object"}, "attempt": text}},
        "Jwe": {"type": "object", "required": ["protected", "encrypted_key", "iv", "ciphertext", "tag"], "properties": {
            "protected": text, "encrypted_key": text, "iv": text, "ciphertext": text, "tag": text}},
        "Counter": counter,
        "MoveCounter": {"type": "object", "required": ["from", "mark"], "properties": {
            "from": counter, "mark": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}},
        "JwkSet": {"type": "object", "required": ["keys"], "properties": {
            "keys": {"type": "array", "items": {"type": "object"}}}},
        "Error": {"type": "object", "required": ["type", "detail"], "properties": {
            "type": text, "detail": text, "code": text, "remedy": text, "attempt": text,
            "causes": {"type": "array", "items": {"type": "object"}}}},
    })
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn schemas() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    macro_rules! all {
        ($($form:ident)*) => { $(add::<forms::$form>(&mut generator);)* };
    }
    all! {
        AdminList Attempt AttemptList AttestationPolicy AttestationPolicyList CollateralFetch CollateralFetched
        CollateralList GenerateResource Info KeptEvidence NamedValueList NewAdmin NewRevocation NewTenant PolicyBody
        PolicyList ReferenceList ReferenceSigners ResourceList ResourceStored ResourceVersions Revocation RevocationList
        SetReferenceState SetResourceState TenantInfo TenantList TenantSettings TrustAnchor TrustAnchorList WhoAmI
    }
    let mut all = generator.take_definitions(true);
    if let Value::Object(own) = protocol() {
        all.extend(own);
    }
    all
}

fn content(form: Form) -> Option<Value> {
    let of = |media: &str, schema: Value| {
        let mut content = Map::new();
        content.insert(media.to_owned(), json!({"schema": schema}));
        Some(Value::Object(content))
    };
    match form {
        Form::Empty => None,
        Form::Bytes => of("application/octet-stream", json!({"type": "string", "format": "binary"})),
        Form::Text => of("text/plain", json!({"type": "string"})),
        Form::Json(name) => of("application/json", json!({"$ref": format!("#/components/schemas/{name}")})),
        Form::Free => of("application/json", json!({})),
    }
}

/// The names between braces; OpenAPI has no word for a rest of several parts, so that of the table becomes a plain one.
fn path(route: &Route) -> (String, Vec<String>) {
    let path = route.path.replace("{*", "{");
    let names =
        path.split('{').skip(1).filter_map(|part| part.split('}').next()).map(str::to_owned).collect();
    (path, names)
}

fn operation(route: &Route) -> Value {
    let (_, names) = path(route);
    let text = json!({"type": "string"});
    let in_path =
        names.iter().map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}));
    let in_query = route.query.iter().map(|name| json!({"name": name, "in": "query", "schema": text}));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut good = json!({"description": "Done."});
    if let (Some(content), Some(good)) = (content(route.answer), good.as_object_mut()) {
        good.insert("content".to_owned(), content);
    }
    let refusal = json!({"$ref": "#/components/responses/Refused"});
    let status =
        if route.method == "PUT" && route.path.ends_with("/tenants/{tenant}") { "201" } else { "200" };
    let status = if route.method == "POST" && route.path.ends_with("/data-keys") { "202" } else { status };
    let mut own = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {status: good, "4XX": refusal, "5XX": refusal},
    });
    let Some(members) = own.as_object_mut() else { return own };
    if let Some(content) = content(route.body) {
        members.insert("requestBody".to_owned(), json!({"content": content}));
    }
    match route.needs {
        Needs::Permission(permission) => {
            let roles: Vec<&str> = permission.roles().iter().map(|role| role.name()).collect();
            members.insert("security".to_owned(), json!([{"admin": []}]));
            members.insert("x-permission".to_owned(), permission.name().into());
            members.insert("x-roles".to_owned(), roles.into());
        }
        Needs::Nothing => drop(members.insert("security".to_owned(), json!([]))),
    }
    own
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let (path, _) = path(route);
        let at = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(at) = at.as_object_mut() {
            at.insert(route.method.to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Coffer broker",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The KBS protocol for guests and the admin API for owners and operators. Each path also exists under /t/{tenant} for the tenant of that name; without it, the host name or the tenant `default` decides.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {"Refused": {
                "description": "Why not, in upstream's form with a stable code (docs/codes.md).",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_api_is_the_one_that_is_served() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        if std::env::var_os("COFFER_BLESS").is_some() {
            std::fs::write(place, text()).unwrap();
        }
        let documented = std::fs::read_to_string(place).unwrap();
        assert!(documented == text(), "docs/openapi.json is another API; write it anew with COFFER_BLESS=1");
    }

    #[test]
    fn every_form_that_a_route_names_has_a_schema() {
        let schemas = schemas();
        for route in ROUTES {
            for form in [route.body, route.answer] {
                if let Form::Json(name) = form {
                    assert!(schemas.contains_key(name), "{name} of {}", route.path);
                }
            }
        }
    }
}
