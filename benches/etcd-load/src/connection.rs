//! One gRPC connection to a member, and the two calls a load makes over it.

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::messages::{PutRequest, PutResponse, RangeRequest, RangeResponse};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Grpc<Channel>,
}

impl Connection {
    /// Connects to `address`, HOST:PORT.
    ///
    /// # Errors
    ///
    /// When the address is none or nobody listens there.
    pub async fn open(address: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(Self { channel: Grpc::new(endpoint.connect().await?) })
    }

    /// Makes `value` the value of `key`.
    ///
    /// # Errors
    ///
    /// What the member or the transport says.
    pub async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Status> {
        self.ready().await?;
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        let request = Request::new(PutRequest { key, value });
        self.channel.unary(request, PathAndQuery::from_static(PUT), codec).await?;
        Ok(())
    }

    /// The value of `key` as of now, for the whole cluster.
    ///
    /// # Errors
    ///
    /// What the member or the transport says.
    pub async fn get(&mut self, key: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        self.ready().await?;
        let codec = ProstCodec::<RangeRequest, RangeResponse>::default();
        let request = Request::new(RangeRequest { key });
        let response = self.channel.unary(request, PathAndQuery::from_static(RANGE), codec).await?;
        Ok(response.into_inner().pairs.pop().map(|pair| pair.value))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.channel.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}
