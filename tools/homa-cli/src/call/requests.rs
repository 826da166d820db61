//! What `homa call` sends.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use bytes::{Bytes, BytesMut};

use crate::{
    args::CallArgs,
    body::{self, ORDER_BYTES, Order},
    error::CliError,
    options::{MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX},
};

/// The requests of a run.
#[derive(Debug)]
pub(super) struct Requests {
    /// The same for every call; patterns are made per call.
    fixed: Option<Bytes>,
    size: usize,
    reply_bytes: Option<u32>,
    /// Whether the reply of the only call is what the user wants to see.
    pub(super) printed: bool,
}

impl Requests {
    /// The requests that the arguments ask for; reads the file or standard input.
    pub(super) fn new(args: &CallArgs) -> Result<Self, CliError> {
        // Limited by the option's parser.
        let reply_bytes = args.reply_bytes.map(|bytes| bytes as u32);
        let content = content(args)?;
        let size = content.as_ref().map_or(args.size.unwrap_or(0), |bytes| bytes.len() as u64);
        check_size(size, &content, reply_bytes)?;
        let printed = content.is_some() && args.count == 1;
        Ok(Requests { fixed: content.map(Bytes::from), size: size as usize, reply_bytes, printed })
    }

    /// The longest message of the run, or the usual limit; bytes.
    pub(super) fn message_bytes_max(&self) -> u32 {
        let longest = self.size.saturating_add(ORDER_BYTES).try_into().unwrap_or(u32::MAX);
        MESSAGE_BYTES_MAX.max(longest)
    }

    /// What the request of this call orders.
    pub(super) fn order(&self, call: u64) -> Option<Order> {
        self.reply_bytes.map(|length| Order::Pattern { length, seed: call })
    }

    /// The request of this call.
    pub(super) fn body(&self, call: u64) -> Bytes {
        match (&self.fixed, self.order(call)) {
            (Some(content), None) => content.clone(),
            (Some(content), Some(order)) => {
                let mut bytes = BytesMut::with_capacity(ORDER_BYTES + content.len());
                bytes.extend_from_slice(&order.encode());
                bytes.extend_from_slice(content);
                bytes.freeze()
            }
            (None, None) => body::pattern(call, self.size),
            (None, Some(order)) => body::pattern_with_order(call, self.size, order),
        }
    }
}

/// What to send if it is no pattern; standard input for `-`.
fn content(args: &CallArgs) -> Result<Option<Vec<u8>>, CliError> {
    let input = Path::new("-");
    let path = match (&args.text, &args.file) {
        (Some(text), _) if text != "-" => return Ok(Some(text.clone().into_bytes())),
        (Some(_), _) => input,
        (None, Some(path)) => path.as_path(),
        (None, None) => return Ok(None),
    };
    let mut bytes = Vec::new();
    // A byte more than can be sent shows that there is too much, however much there is.
    let most = PAYLOAD_BYTES_MAX + 1;
    let read = match path == input {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    let path = if path == input { Path::new("standard input") } else { path };
    read.map_err(|error| CliError::File {
        action: "read",
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Some(bytes))
}

fn check_size(
    size: u64,
    content: &Option<Vec<u8>>,
    reply_bytes: Option<u32>,
) -> Result<(), CliError> {
    if size == 0 {
        return Err(CliError::Usage("a request has at least 1 byte".to_owned()));
    }
    if size + ORDER_BYTES as u64 > PAYLOAD_BYTES_MAX {
        return Err(CliError::Usage(format!(
            "a request of {size} bytes is too long; the limit is 1 GiB"
        )));
    }
    if content.is_none() && reply_bytes.is_some() && size < ORDER_BYTES as u64 {
        return Err(CliError::Usage(format!(
            "--reply-bytes needs --size {ORDER_BYTES} or more: it is carried in the request's first bytes"
        )));
    }
    Ok(())
}
