//! The async face, on tokio.

mod call;
mod endpoint;
mod request;
mod stream;
mod task;

pub use call::{Call, PendingResponse};
pub use endpoint::Endpoint;
pub use request::{Request, RequestStream, Responder};
pub use stream::{BodySender, ResponseStream};
pub(crate) use task::ensure_task;
