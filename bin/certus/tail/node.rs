//! The node that is tailed: finding it, and asking it.

use std::net::SocketAddr;
use std::time::Duration;

use engine::tail::change::Page;
use engine::tail::{Position, Question};
use net::resp::value::Value;
use serde_json::Value as Json;

use crate::resp_client::{ClientError, RespClient, resolve};

/// Why a node cannot be tailed now.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{0}")]
    Client(#[from] ClientError),
    /// It answers something else than a node of Certus does.
    #[error("it is no node of Certus, or of another version: CERTUS STATUS says {0}")]
    Stranger(String),
}

/// A node that can be asked.
pub struct Node {
    pub address: SocketAddr,
    /// Its cores.
    pub core_count: u16,
    client: RespClient,
}

impl Node {
    /// Connects, and learns how many cores it has.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or is something else.
    pub fn connect(address: &str, timeout: Duration) -> Result<Self, NodeError> {
        let address = resolve(address)?;
        let mut client = RespClient::connect(address, timeout)?;
        let reply = client.ask(&["CERTUS", "STATUS"])?;
        let document = match &reply {
            Value::Bulk(bytes) => serde_json::from_slice::<Json>(bytes).ok(),
            _ => None,
        };
        let count = document.as_ref().and_then(|document| document.get("cores")?.as_array());
        let count = count.and_then(|cores| u16::try_from(cores.len()).ok());
        match count.filter(|count| *count > 0) {
            Some(core_count) => Ok(Self { address, core_count, client }),
            None => Err(NodeError::Stranger(format!("{reply:?}").chars().take(80).collect())),
        }
    }

    /// Whether a position is of this node's logs; `None` when it does not say.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn has_log_of(&mut self, position: &Position) -> Result<Option<bool>, NodeError> {
        let streams = position.cores.iter().zip(0..).map(|(place, core)| (place.stream, core));
        let Some((stream, core)) = streams.clone().find_map(|(stream, core)| Some((stream?, core)))
        else {
            return Ok(None);
        };
        if core >= self.core_count {
            return Ok(Some(false));
        }
        let replies = self.ask(core, &[Question::Changes(None)], None)?;
        let page = replies.first().and_then(|reply| Page::read(reply).ok());
        Ok(page.map(|page| page.next.log == stream.log))
    }

    /// Asks some questions together; the replies, in their order.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or no reply comes in time.
    pub fn ask(
        &mut self,
        core: u16,
        questions: &[Question],
        pattern: Option<&[u8]>,
    ) -> Result<Vec<Value>, NodeError> {
        for question in questions {
            self.client.send(&question.words(core, pattern))?;
        }
        let replies: Result<Vec<Value>, ClientError> =
            questions.iter().map(|_| self.client.receive()).collect();
        Ok(replies?)
    }
}
