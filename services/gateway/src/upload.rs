//! Uploads: a form, or a raw body. Bytes go to the nodes as they come; the file
//! exists once its group has committed it, and before that not at all.

pub mod incoming;
pub mod parameters;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use holdfast_model::FileName;

use self::incoming::{Arrived, Incoming};
use self::parameters::{Parameters, Wishes};
use crate::app::{App, Transfer};
use crate::auth::need_caller;
use crate::body::is_idle;
use crate::error::ApiError;
use crate::files::view::FileView;
use crate::front::Context;
use crate::mime;

/// What the parts of a form but the file, and the lines between them, may take.
const MAX_FORM_OVERHEAD_BYTES: u64 = 64 << 10;
/// The longest field of a form, in bytes.
const MAX_FIELD_BYTES: usize = 4 << 10;
/// The most parts of a form: the known ones, each of which comes once.
const MAX_PARTS: usize = 16;
/// Carries the password of a file.
pub const PASSWORD_HEADER: &str = "holdfast-password";

/// `POST /api/upload`.
pub async fn post_form(
    State(app): State<Arc<App>>,
    context: Context,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = need_caller(context.caller)?;
    let key = idempotency_key(request.headers())?;
    let max = app.settings.max_file_bytes;
    if content_length(request.headers())?.is_some_and(|n| n > max + MAX_FORM_OVERHEAD_BYTES) {
        return Err(ApiError::TooLarge { max });
    }
    let _room = app.admit(Transfer::Upload(content_length(request.headers())?))?;
    let base = base_url(&app, &context, request.headers());
    let form = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| ApiError::BadForm(rejection.body_text()))?;
    let mut incoming = Incoming::new(app.clone(), caller, key);
    incoming.recognise(context.trace()).await?;
    let read = read_form(&app, &mut incoming, form).await;
    let (wishes, filename, declared) = match read {
        Ok(parts) => parts,
        Err(error) => {
            incoming.abort().await;
            return Err(error);
        }
    };
    finish(&app, &context, incoming, wishes, filename, declared, &base).await
}

/// `PUT /api/upload/{filename}`.
pub async fn put_raw(
    State(app): State<Arc<App>>,
    context: Context,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = need_caller(context.caller)?;
    let Path(name) = name.map_err(|_| ApiError::BadFileName("the file name is no UTF-8".into()))?;
    let filename = FileName::new(name)?;
    let headers = request.headers();
    let key = idempotency_key(headers)?;
    let wishes = Wishes::from_query(request.uri().query(), headers)?;
    let parameters = wishes.resolve(&app.settings)?;
    let declared = match headers.get(header::CONTENT_TYPE) {
        // What curl says of every raw body is no declaration.
        Some(value) if value != "application/x-www-form-urlencoded" => {
            Some(declared_type(value.to_str().unwrap_or_default())?)
        }
        _ => None,
    };
    let size = content_length(headers)?;
    let max = app.settings.max_file_bytes;
    if size.is_some_and(|size| size > max) {
        return Err(ApiError::TooLarge { max });
    }
    let _room = app.admit(Transfer::Upload(size))?;
    let base = base_url(&app, &context, headers);
    let mut incoming = Incoming::new(app.clone(), caller, key);
    incoming.recognise(context.trace()).await?;
    incoming.begin(size, parameters.lifetime)?;
    if let Err(error) = read_raw(&mut incoming, request.into_body(), size).await {
        incoming.abort().await;
        return Err(error);
    }
    finish(&app, &context, incoming, wishes, filename, declared, &base).await
}

/// `PUT /api/upload/`: a script whose file name turned out empty.
pub async fn put_nameless(context: Context) -> ApiError {
    match need_caller(context.caller) {
        Ok(_) => ApiError::BadFileName(
            "the address names no file: PUT /api/upload/{filename}, or POST a form to /api/upload"
                .into(),
        ),
        Err(error) => error,
    }
}

async fn finish(
    app: &App,
    context: &Context,
    incoming: Incoming,
    wishes: Wishes,
    filename: FileName,
    declared: Option<String>,
    base: &str,
) -> Result<Response, ApiError> {
    let arrived = Arrived {
        filename,
        declared,
        parameters: wishes.resolve(&app.settings)?,
    };
    let stored = incoming.commit(arrived, context.trace()).await?;
    let view = FileView::new(&stored.record, base).with_delete_token(stored.delete_token);
    let location = [(header::LOCATION, view.download_url.clone())];
    Ok((StatusCode::CREATED, location, axum::Json(view)).into_response())
}

async fn read_raw(
    incoming: &mut Incoming,
    body: Body,
    announced: Option<u64>,
) -> Result<(), ApiError> {
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| broken_body(&error))?;
        incoming.write(piece).await?;
    }
    // hyper ends a body that is cut with an error; this holds for any server.
    if announced.is_some_and(|size| size != incoming.size()) {
        return Err(ApiError::IncompleteBody);
    }
    Ok(())
}

type Form = (Wishes, FileName, Option<String>);

/// Reads all parts. Fields may stand before and behind the file.
async fn read_form(
    app: &App,
    incoming: &mut Incoming,
    mut form: Multipart,
) -> Result<Form, ApiError> {
    let mut wishes = Wishes::default();
    let mut file: Option<(FileName, Option<String>)> = None;
    let mut parts = 0;
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|error| broken_form(&error))?
    {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(ApiError::BadForm(format!("more than {MAX_PARTS} parts")));
        }
        match field.name().unwrap_or_default().to_owned().as_str() {
            "file" if file.is_some() => return Err(ApiError::PartRepeated("file")),
            "file" => {
                let filename = FileName::new(unescape(part_name(&field)?))?;
                let declared = field.content_type().map(declared_type).transpose()?;
                // What is wrong with the fields so far is said before the bytes come.
                let known: Parameters = wishes.resolve(&app.settings)?;
                incoming.begin(None, known.lifetime)?;
                read_file(incoming, field).await?;
                file = Some((filename, declared));
            }
            name => {
                let name = name.to_owned();
                let text = read_field(field).await?;
                wishes.set(&name, text)?;
            }
        }
    }
    let (filename, declared) = file.ok_or(ApiError::FileMissing)?;
    wishes.resolve(&app.settings)?;
    Ok((wishes, filename, declared))
}

/// The file's name. A page in another encoding sends names that are no UTF-8;
/// the form's parser leaves those out as if there were none.
fn part_name<'a>(field: &'a Field<'_>) -> Result<&'a str, ApiError> {
    let is_named = || {
        field
            .headers()
            .get(header::CONTENT_DISPOSITION)
            .is_some_and(|value| value.as_bytes().windows(9).any(|at| at == b"filename="))
    };
    match field.file_name() {
        Some(name) => Ok(name),
        None if is_named() => Err(ApiError::BadFileName("the file name is no UTF-8".into())),
        None => Err(ApiError::FileMissing),
    }
}

/// Undoes what browsers do to a name in a form (WHATWG HTML, 4.10.21.8,
/// "multipart/form-data encoding algorithm"): a quote and the line ends are
/// percent-encoded, and nothing else is, the percent sign neither.
fn unescape(name: &str) -> String {
    name.replace("%22", "\"")
        .replace("%0D", "\r")
        .replace("%0A", "\n")
}

async fn read_file(incoming: &mut Incoming, mut field: Field<'_>) -> Result<(), ApiError> {
    while let Some(piece) = field.chunk().await.map_err(|error| broken_form(&error))? {
        incoming.write(piece).await?;
    }
    Ok(())
}

async fn read_field(mut field: Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken_form(&error))? {
        if bytes.len() + piece.len() > MAX_FIELD_BYTES {
            return Err(ApiError::BadForm(format!(
                "a field has more than {MAX_FIELD_BYTES} bytes"
            )));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::BadForm("a field is no UTF-8".into()))
}

fn declared_type(text: &str) -> Result<String, ApiError> {
    mime::parse(text).ok_or(ApiError::BadMimeType)
}

fn broken_body(error: &axum::Error) -> ApiError {
    if is_idle(error) {
        ApiError::BodyTimeout
    } else {
        ApiError::IncompleteBody
    }
}

fn broken_form(error: &MultipartError) -> ApiError {
    if is_idle(error) {
        ApiError::BodyTimeout
    } else if error.status().is_server_error() {
        // The stream below the form broke; the form itself is not at fault.
        ApiError::IncompleteBody
    } else {
        ApiError::BadForm(error.body_text())
    }
}

/// The announced size of the body.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    headers
        .get(header::CONTENT_LENGTH)
        .map(|value| value.to_str().ok().and_then(|text| text.parse().ok()))
        .map(|size: Option<u64>| {
            size.ok_or_else(|| ApiError::BadParameter("Content-Length is no number".into()))
        })
        .transpose()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if (1..=255).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(ApiError::BadIdempotencyKey),
    }
}

/// Where clients reach this API, without a slash at the end.
pub fn base_url(app: &App, context: &Context, headers: &HeaderMap) -> String {
    if let Some(url) = &app.settings.public_url {
        return url.clone();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| !host.is_empty() && host.bytes().all(plain));
    match host {
        Some(host) if context.https => format!("https://{host}"),
        Some(host) => format!("http://{host}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_escape_in_a_name_is_undone_and_nothing_else() {
        assert_eq!(unescape("6%22 pipe.txt"), "6\" pipe.txt");
        assert_eq!(unescape("a%0D%0Ab"), "a\r\nb");
        for same in ["100%.txt", "a%20b", "%2522.txt", "a%0d", "100%2F"] {
            assert_eq!(unescape(same), same);
        }
    }
}
