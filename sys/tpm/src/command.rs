//! Commands and responses as bytes (Part 1, section 18).

use crate::TpmError;
use crate::rc::ResponseCode;
use crate::transport::MAX_MESSAGE;

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
/// `TPM_RS_PW`, an empty nonce, no attributes, an empty password.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// A command that is being written.
pub(crate) struct Command {
    name: &'static str,
    code: u32,
    handles: Vec<u8>,
    sessions: usize,
    parameters: Vec<u8>,
    gives_handle: bool,
    too_long: Option<(&'static str, usize)>,
    /// Stands in the place of empty passwords.
    authorization: Option<Vec<u8>>,
}

impl Command {
    pub(crate) const fn new(name: &'static str, code: u32) -> Self {
        Self {
            name,
            code,
            handles: Vec::new(),
            sessions: 0,
            parameters: Vec::new(),
            gives_handle: false,
            too_long: None,
            authorization: None,
        }
    }

    pub(crate) const fn code(&self) -> u32 {
        self.code
    }

    pub(crate) fn parameters(&self) -> &[u8] {
        &self.parameters
    }

    /// The parameters are replaced, as by encrypted ones.
    pub(crate) fn with_parameters(mut self, parameters: Vec<u8>) -> Self {
        self.parameters = parameters;
        self
    }

    /// A session's authorization in the place of the empty password of the one authorized handle.
    pub(crate) fn with_authorization(mut self, area: Vec<u8>) -> Self {
        self.authorization = Some(area);
        self
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// A handle that needs no authorization.
    pub(crate) fn handle(mut self, handle: u32) -> Self {
        self.handles.extend(handle.to_be_bytes());
        self
    }

    /// A handle that is authorized with the empty password.
    pub(crate) fn authorized(mut self, handle: u32) -> Self {
        self.sessions = self.sessions.saturating_add(1);
        self.handle(handle)
    }

    /// The response begins with a handle.
    pub(crate) const fn giving_handle(mut self) -> Self {
        self.gives_handle = true;
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend_from_slice(bytes);
        self
    }

    /// A `TPM2B`.
    pub(crate) fn sized(mut self, what: &'static str, bytes: &[u8]) -> Self {
        match u16::try_from(bytes.len()) {
            Ok(size) => self.u16(size).raw(bytes),
            Err(_) => {
                self.too_long = Some((what, bytes.len()));
                self
            }
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, TpmError> {
        let mut body = self.handles.clone();
        if self.sessions > 0 {
            let area = self.authorization.clone().unwrap_or_else(|| EMPTY_PASSWORD.repeat(self.sessions));
            body.extend(u32::try_from(area.len()).unwrap_or(u32::MAX).to_be_bytes());
            body.extend(area);
        }
        body.extend_from_slice(&self.parameters);
        let size = body.len().saturating_add(10);
        let too_long = self.too_long.or((size > MAX_MESSAGE).then_some(("the command", size)));
        if let Some((what, found)) = too_long {
            return Err(TpmError::TooLong { command: self.name, what, limit: MAX_MESSAGE, found });
        }
        let tag = if self.sessions > 0 { TAG_SESSIONS } else { TAG_NO_SESSIONS };
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(self.code.to_be_bytes());
        bytes.extend(body);
        Ok(bytes)
    }
}

/// A successful response.
pub(crate) struct Response {
    command: &'static str,
    handle: u32,
    parameters: Vec<u8>,
    authorization: Vec<u8>,
}

impl Response {
    /// Takes the response apart, and the TPM's refusal out of it.
    pub(crate) fn parse(command: &Command, bytes: Vec<u8>) -> Result<Self, TpmError> {
        let name = command.name;
        let length = bytes.len();
        let mut reader = Parameters { command: name, rest: &bytes };
        let tag = reader.u16()?;
        let size = reader.u32()?;
        if usize::try_from(size) != Ok(length) {
            return Err(reader.malformed("its size field is not its size"));
        }
        match ResponseCode(reader.u32()?) {
            ResponseCode(0) => {}
            code => return Err(TpmError::Refused { command: name, code }),
        }
        let expected = if command.sessions > 0 { TAG_SESSIONS } else { TAG_NO_SESSIONS };
        if tag != expected {
            return Err(reader.malformed("its tag does not fit the command"));
        }
        let handle = if command.gives_handle { reader.u32()? } else { 0 };
        let (parameters, authorization) = match command.sessions {
            0 => (reader.rest, &[][..]),
            _ => {
                let size = reader.u32()?;
                let parameters = reader.take(usize::try_from(size).unwrap_or(usize::MAX))?;
                (parameters, reader.rest)
            }
        };
        let (parameters, authorization) = (parameters.to_vec(), authorization.to_vec());
        Ok(Self { command: name, handle, parameters, authorization })
    }

    pub(crate) const fn handle(&self) -> u32 {
        self.handle
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        Parameters { command: self.command, rest: &self.parameters }
    }

    /// What the sessions say of the response.
    pub(crate) fn authorization(&self) -> Parameters<'_> {
        Parameters { command: self.command, rest: &self.authorization }
    }
}

/// A response's parameters that are being read.
pub(crate) struct Parameters<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Parameters that were decrypted.
    pub(crate) const fn new(command: &'static str, rest: &'a [u8]) -> Self {
        Self { command, rest }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.malformed("it ends within a field"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let size = self.u16()?;
        self.take(size.into())
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn end(&self) -> Result<(), TpmError> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(self.malformed("bytes follow its last field")),
        }
    }

    pub(crate) const fn malformed(&self, what: &'static str) -> TpmError {
        TpmError::Malformed { command: self.command, what }
    }
}
