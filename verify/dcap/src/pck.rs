//! What Intel says of a platform in its certificate (Intel SGX PCK Certificate and CRL Profile, section 1.3.5).

use coffer_verify_x509::der::{DerError, Reader, number, oid, tag};

/// The SGX extension of PCK certificates.
pub(crate) const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";

/// What the extension says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PckExtension {
    /// The platform provisioning id.
    pub ppid: [u8; 16],
    /// The security version of each of the sixteen components of the processor's TCB.
    pub components: [u8; 16],
    /// The processor's TCB as it reports it.
    pub cpu_svn: [u8; 16],
    /// The security version of the provisioning enclave.
    pub pce_svn: u16,
    /// The provisioning enclave.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform and SKU.
    pub fmspc: [u8; 6],
    /// 0 standard, 1 scalable, 2 scalable with integrity.
    pub sgx_type: u8,
    /// The id of a platform of several packages.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Whether packages can be added.
    pub dynamic_platform: Option<bool>,
    /// Whether the registration service holds the platform's root keys.
    pub cached_keys: Option<bool>,
    /// Whether two threads share a core.
    pub smt_enabled: Option<bool>,
}

impl PckExtension {
    /// Reads the extension's value.
    pub fn parse(value: &[u8]) -> Result<Self, DerError> {
        let entries = Entries::read(value, SGX_EXTENSION, "the SGX extension")?;
        let tcb = Entries::inside(entries.get(2)?, &format!("{SGX_EXTENSION}.2"), "the TCB")?;
        let mut components = [0; 16];
        for (component, arc) in components.iter_mut().zip(1..) {
            let svn = Reader::new(tcb.get(arc)?.whole).number("a component's SVN")?;
            *component = u8::try_from(svn).map_err(|_| DerError::Value("a component's SVN"))?;
        }
        let pce_svn = Reader::new(tcb.get(17)?.whole).number("PCESVN")?;
        let configuration = entries
            .find(7)
            .map(|found| Entries::inside(found, &format!("{SGX_EXTENSION}.7"), "the configuration"))
            .transpose()?;
        let flag = |arc| configuration.as_ref().and_then(|found| found.find(arc)).map(boolean).transpose();
        Ok(Self {
            ppid: octets(entries.get(1)?, "PPID")?,
            components,
            cpu_svn: octets(tcb.get(18)?, "CPUSVN")?,
            pce_svn: u16::try_from(pce_svn).map_err(|_| DerError::Value("PCESVN"))?,
            pce_id: octets(entries.get(3)?, "PCE-ID")?,
            fmspc: octets(entries.get(4)?, "FMSPC")?,
            sgx_type: match entries.get(5)? {
                found if found.tag == tag::ENUMERATED => u8::try_from(number(found.content, "SGX Type")?)
                    .map_err(|_| DerError::Value("SGX Type"))?,
                _ => return Err(DerError::Value("SGX Type")),
            },
            platform_instance_id: entries
                .find(6)
                .map(|found| octets(found, "Platform Instance ID"))
                .transpose()?,
            dynamic_platform: flag(1)?,
            cached_keys: flag(2)?,
            smt_enabled: flag(3)?,
        })
    }
}

type Element<'a> = coffer_verify_x509::der::Element<'a>;

/// Pairs of an identifier and a value, by the identifier's last arc.
struct Entries<'a> {
    field: &'static str,
    found: Vec<(u8, Element<'a>)>,
}

impl<'a> Entries<'a> {
    fn read(bytes: &'a [u8], base: &str, field: &'static str) -> Result<Self, DerError> {
        let mut outer = Reader::new(bytes);
        let list = outer.expect(tag::SEQUENCE, field)?;
        outer.end(field)?;
        Self::inside(list, base, field)
    }

    fn inside(list: Element<'a>, base: &str, field: &'static str) -> Result<Self, DerError> {
        if list.tag != tag::SEQUENCE {
            return Err(DerError::Tag { field, expected: tag::SEQUENCE, found: list.tag });
        }
        let base = oid(base).ok_or(DerError::Value(field))?;
        let mut list = Reader::new(list.content);
        let mut found: Vec<(u8, Element<'a>)> = Vec::new();
        while !list.is_empty() {
            let mut pair = list.sequence(field)?;
            let id = pair.expect(tag::OID, field)?.content;
            let value = pair.any(field)?;
            pair.end(field)?;
            // What later profiles add under other arcs is tolerated; what is said twice is not.
            let Some([arc]) = id.strip_prefix(base.as_slice()) else { continue };
            if found.iter().any(|(other, _)| other == arc) {
                return Err(DerError::Value(field));
            }
            found.push((*arc, value));
        }
        Ok(Self { field, found })
    }

    fn find(&self, arc: u8) -> Option<Element<'a>> {
        self.found.iter().find(|(other, _)| *other == arc).map(|(_, value)| *value)
    }

    fn get(&self, arc: u8) -> Result<Element<'a>, DerError> {
        self.find(arc).ok_or(DerError::Truncated(self.field))
    }
}

fn octets<const N: usize>(element: Element<'_>, field: &'static str) -> Result<[u8; N], DerError> {
    match element.tag {
        tag::OCTET_STRING => element.content.try_into().map_err(|_| DerError::Value(field)),
        found => Err(DerError::Tag { field, expected: tag::OCTET_STRING, found }),
    }
}

fn boolean(element: Element<'_>) -> Result<bool, DerError> {
    match (element.tag, element.content) {
        (tag::BOOLEAN, [0]) => Ok(false),
        (tag::BOOLEAN, [0xff]) => Ok(true),
        _ => Err(DerError::Value("a flag of the configuration")),
    }
}
