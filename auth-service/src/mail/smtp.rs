//! Delivery to a mail server by SMTP, with a bound on what the server may send: lettre reads a reply to
//! its end, however long it is.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use lettre::{
    Message as Mail,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
            TlsVersion,
        },
        extension::ClientId,
    },
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    server::{Security, SmtpServer},
    transport::{Failure, FailureKind},
};

/// The time limits for connecting, and for a whole mail.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the server may take to answer the end of the dialogue.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// The most bytes that a server may send between two writes to it. A reply is a few lines, and the
/// certificates of a TLS handshake are some KiB.
const MOST_REPLY: usize = 64 * 1024;

const NO_CERTIFICATE: &str = "holds no certificate of an authority in PEM";

/// A mail server. It is connected to anew for each mail.
pub struct SmtpClient {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
}

enum Tls {
    None,
    /// STARTTLS, which the server must offer.
    Start(TlsParameters),
    /// TLS from the first byte.
    Wrapper(TlsParameters),
}

/// Omits the credentials.
impl fmt::Debug for SmtpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SmtpClient").field("host", &self.host).finish_non_exhaustive()
    }
}

impl SmtpClient {
    /// Delivers to `server`. `authorities`, in PEM, replace the authorities that the system trusts.
    ///
    /// # Errors
    ///
    /// If the authorities are not certificates in PEM.
    pub(super) fn new(server: SmtpServer, authorities: Option<&[u8]>) -> Result<Self, String> {
        let SmtpServer { host, port, security, credentials } = server;
        let tls = match security {
            Security::None => Tls::None,
            Security::Tls => Tls::Wrapper(tls(&host, authorities)?),
            Security::StartTls => Tls::Start(tls(&host, authorities)?),
        };
        let credentials = credentials
            .map(|(user, password)| Credentials::new(user, password.expose().to_owned()));
        Ok(Self { host, port, tls, credentials, hello: ClientId::default() })
    }

    /// Sends a mail.
    pub(super) async fn send(&self, mail: &Mail) -> Result<(), Failure> {
        let timeout = || Failure::new(FailureKind::Timeout, "the mail server took too long");
        tokio::time::timeout(DELIVERY_TIMEOUT, self.deliver(mail)).await.map_err(|_| timeout())?
    }

    async fn deliver(&self, mail: &Mail) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        connection.send(mail.envelope(), &mail.formatted()).await?;
        // The mail is delivered, whatever the server says to the end of the dialogue, and whenever.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.abort()).await;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let server = (self.host.as_str(), self.port);
        if let Tls::Wrapper(tls) = &self.tls {
            // Only the authenticated server can send anything here.
            let (timeout, tls) = (Some(CONNECT_TIMEOUT), Some(tls.clone()));
            return Ok(AsyncSmtpConnection::connect_tokio1(
                server,
                timeout,
                &self.hello,
                tls,
                None,
            )
            .await?);
        }
        let timeout = || Failure::new(FailureKind::Timeout, "the mail server took too long");
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(server))
            .await
            .map_err(|_| timeout())?
            .map_err(|error| Failure::new(FailureKind::Unreachable, error.to_string()))?;
        let stream = Box::new(Bounded { stream, left: MOST_REPLY });
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await?;
        if let Tls::Start(tls) = &self.tls {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        Ok(connection)
    }
}

fn tls(host: &str, authorities: Option<&[u8]>) -> Result<TlsParameters, String> {
    let mut builder =
        TlsParameters::builder(host.to_owned()).set_min_tls_version(TlsVersion::Tlsv12);
    if let Some(pem) = authorities {
        if CertificateDer::pem_slice_iter(pem).next().is_none() {
            return Err(NO_CERTIFICATE.to_owned());
        }
        let certificate = Certificate::from_pem(pem).map_err(|_| NO_CERTIFICATE)?;
        builder =
            builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|_| NO_CERTIFICATE.to_owned())
}

/// A connection that fails if its peer sends too much without being written to.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    /// How many bytes may still be read before the next write.
    left: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the reply of the mail server is too long",
            ))),
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.left = MOST_REPLY;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_stop_talking_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 here\r\n").await.unwrap();
            let read = stream.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0);
            stream.write_all(b"250-X").await.unwrap();
            let mut sent = 0;
            while let Ok(written) = stream.write(&[b'a'; 4096]).await {
                sent += written;
            }
            sent
        });
        let server_url = format!("smtp://127.0.0.1:{port}?tls=none").parse().unwrap();
        let client = SmtpClient::new(server_url, None).unwrap();
        let mail = Mail::builder()
            .from("a@example.com".parse().unwrap())
            .to("b@example.com".parse().unwrap())
            .body(String::new())
            .unwrap();
        let failure = client.send(&mail).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.to_string().contains("too long"), "{failure}");
        // What is above the bound was in the buffers of the system.
        assert!(server.await.unwrap() < 16 * 1024 * 1024);
    }
}
