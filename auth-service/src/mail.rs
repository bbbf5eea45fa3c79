//! Mail: messages, templates, the outbox, and transports.

mod links;
mod message;
pub mod outbox;
mod server;
mod smtp;
mod templates;
mod transport;

pub use self::{
    links::{Links, Page, own_url, page_url, public_url},
    message::{Kind, Message, Rendered},
    outbox::{Deliverer, Mailer, Outgoing},
    server::{Security, SmtpServer},
    templates::{TemplateError, Templates},
    transport::{Failure, FailureKind, Sender, Transport, sender_address},
};
