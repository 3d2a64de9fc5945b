//! An address that nobody answers until it is opened: an endpoint that is away.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// A port of its own on 127.0.0.1. Closed, it refuses connections and yet is nobody else's; open, it leads on.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    closed: Option<TcpSocket>,
    connections: JoinSet<()>,
}

impl Gate {
    /// A closed gate on a free port.
    pub fn closed() -> anyhow::Result<Self> {
        let socket = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        Ok(Self { address, closed: Some(socket), connections: JoinSet::new() })
    }

    /// `http://127.0.0.1:port`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on connections lead to that endpoint.
    pub fn open(&mut self, endpoint: &str) -> anyhow::Result<()> {
        let Some(socket) = self.closed.take() else { bail!("the gate is open already") };
        let target: SocketAddr = endpoint.trim_start_matches("http://").parse().context(endpoint.to_owned())?;
        let listener = socket.listen(1024)?;
        self.connections.spawn(lead(listener, target));
        Ok(())
    }

    /// Cuts every connection and refuses further ones.
    pub async fn close(&mut self) -> anyhow::Result<()> {
        self.connections.shutdown().await;
        self.closed = Some(reserve(self.address)?);
        Ok(())
    }
}

/// Bound but not listening: the kernel refuses connections, and gives the port to nobody else.
fn reserve(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("port {} cannot be had", address.port()))?;
    Ok(socket)
}

async fn lead(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            // However a connection ends, both of its sides see it.
            if let Ok(mut server) = TcpStream::connect(target).await {
                copy_bidirectional(&mut client, &mut server).await.ok();
            }
        });
    }
}
