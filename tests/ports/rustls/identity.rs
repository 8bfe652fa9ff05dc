//! Who the server is, and who the clients believe it to be.

use std::sync::{Arc, LazyLock};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

const NAME: &str = "port.test";

/// A certificate for [`NAME`], and the key to it.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn generate() -> Identity {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).unwrap();
        Identity {
            certificate: cert.der().clone(),
            key: signing_key.into(),
        }
    }
}

static SERVER: LazyLock<Identity> = LazyLock::new(Identity::generate);
static STRANGER: LazyLock<Identity> = LazyLock::new(Identity::generate);

/// The name that every client asks for.
pub fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// A server with the certificate that clients trust.
pub fn server() -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![SERVER.certificate.clone()], SERVER.key.clone_key());
    Arc::new(config.unwrap())
}

/// A client that trusts the server, and one that remembers sessions.
pub fn client() -> Arc<ClientConfig> {
    Arc::new(trusting(&SERVER, &TLS13))
}

/// A client that speaks this version and makes a full handshake each time.
pub fn forgetful_client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = trusting(&SERVER, version);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A client that trusts somebody else.
pub fn mistaken_client() -> Arc<ClientConfig> {
    Arc::new(trusting(&STRANGER, &TLS13))
}

fn trusting(identity: &Identity, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
