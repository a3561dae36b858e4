//! Claims about single claims sets, without tokens around them.

use coffer_core_cose::cbor::{self, Map, Value as Cbor};
use coffer_lab_testpki::{CcaFixture, CcaProfile};

use crate::{ClaimError, PlatformClaims, RealmClaims};

#[test]
fn the_first_specification_keeps_the_realms_key_as_a_point_and_later_ones_as_a_cose_key() {
    for profile in [CcaProfile::First, CcaProfile::Of2023, CcaProfile::Of2024] {
        let fixture = CcaFixture::new(profile);
        let claims = RealmClaims::parse(&cbor::encode(&fixture.realm(&[7; 64]).into())).unwrap();
        assert_eq!(&claims.key, fixture.realm_key.public());
        assert_eq!(claims.public_key.len() == 97, profile == CcaProfile::First);
        assert_eq!(claims.mec_policy.as_deref(), (profile == CcaProfile::Of2024).then_some("private"));
    }
}

#[test]
fn what_is_attached_to_a_platform_is_read_whole() {
    let fixture = CcaFixture::new(CcaProfile::Of2024);
    let claims = PlatformClaims::parse(&cbor::encode(&fixture.platform().into())).unwrap();
    assert_eq!(claims.client_id, Some(1));
    assert_eq!(claims.devices[0].protocol, "spdm-1.2.0");
    assert!(claims.devices[0].uses_ide);
    assert_eq!((claims.boot_keys[0].name.as_str(), claims.boot_keys[0].index), ("DM", 1));
    assert_eq!(claims.peer_signers.as_deref(), Some(&[5; 5][..]));
}

#[test]
fn a_device_has_the_claims_that_its_protocol_and_type_ask_for() {
    let fixture = CcaFixture::new(CcaProfile::Of2024);
    let device = fixture.platform().at(2404).unwrap().as_array().unwrap()[0].as_map().unwrap().clone();
    let with = |device: Map| {
        let claims = fixture.platform().with(2404, Cbor::Array(vec![device.into()]));
        PlatformClaims::parse(&cbor::encode(&claims.into()))
    };
    let plain = Map::new().with(2, &[1; 32][..]).with(3, &[1; 48][..]).with(4, false);
    let plain = plain.with(5, "of the maker").with(7, "of the maker");
    assert!(with(device.clone()).is_ok() && with(plain.clone()).is_ok());
    for wrong in [
        device.clone().with(5, "of the maker"),
        device.clone().with(7, "of the maker"),
        device.clone().with(8, 3),
        device.clone().with(6, &[0; 20][..]),
        device.with(3, &[0; 20][..]),
        plain.clone().with(5, "spdm-1.4.0"),
        plain.clone().with(7, "cxl-type-3"),
        plain.with(4, 1),
    ] {
        assert!(matches!(with(wrong), Err(ClaimError::Claim { .. })));
    }
}
