//! The launch measurement of a guest that an IGVM file describes, pages and processors' state alike.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};

use super::{LaunchDigest, MEASUREMENT, PageKind, Vmm, prediction};
use crate::igvm::{PageType, Platform, Step, steps};
use crate::{Artifacts, Bound, Component, LaunchError, ReferenceValues, Variation};

/// The inputs of a launch from an IGVM file.
#[derive(Clone, Copy)]
pub struct SnpIgvmLaunch<'a> {
    /// The file.
    pub igvm: &'a [u8],
    /// The launcher. QEMU gives pages without data as zero pages; others as pages full of zeros.
    pub vmm: Vmm,
    /// The init-data's digest, if the guest is given any.
    pub init_data: Option<Digest>,
}

/// Predicts the launch measurement and HOST_DATA.
pub fn predict_snp_igvm(launch: &SnpIgvmLaunch<'_>) -> Result<ReferenceValues, LaunchError> {
    let steps = steps(launch.igvm, Platform::Snp)?;
    let native = launch.vmm == Vmm::Qemu;
    let measurement = measure(&steps, native);
    let mut versions = BTreeMap::new();
    for step in &steps {
        if let Step::IdBlock { measurement: expected, guest_svn } = step {
            if *expected != measurement.as_bytes() {
                let found = Digest::from_bytes(Algorithm::Sha384, expected).unwrap_or(measurement);
                return Err(LaunchError::IdBlock { expected: Box::new(measurement), found: Box::new(found) });
            }
            versions.insert("guest-svn".to_owned(), Bound::AtLeast(u64::from(*guest_svn)));
        }
    }
    let artifacts = Artifacts {
        igvm: Some(Digest::sha256(launch.igvm)),
        vmm: Some(launch.vmm.name().to_owned()),
        ..Artifacts::default()
    };
    let other = Variation {
        component: Component::Vmm,
        detail: match native {
            true => {
                "pages without data given as pages full of zeros, as launchers other than QEMU do".to_owned()
            }
            false => "pages without data given as zero pages, as QEMU does".to_owned(),
        },
        registers: BTreeMap::from([(MEASUREMENT.to_owned(), measure(&steps, !native))]),
        events: Vec::new(),
    };
    let mut prediction = prediction(measurement, artifacts, launch.init_data);
    prediction.versions = versions;
    Ok(prediction.finish([other]))
}

fn measure(steps: &[Step<'_>], native_zero: bool) -> Digest {
    let mut digest = LaunchDigest::new();
    for step in steps {
        match *step {
            Step::Page { gpa, size, kind, measured, data } => match (kind, measured) {
                (PageType::Secrets, _) => digest.pages(PageKind::Secrets, gpa, size),
                (PageType::Cpuid, _) => digest.pages(PageKind::Cpuid, gpa, size),
                (PageType::Normal, false) => digest.pages(PageKind::Unmeasured, gpa, size),
                (PageType::Normal, true) if data.is_empty() && native_zero => {
                    digest.pages(PageKind::Zero, gpa, size);
                }
                (PageType::Normal, true) if data.is_empty() => digest.zeros(gpa, size),
                (PageType::Normal, true) => digest.data(gpa, data),
            },
            Step::Parameters { gpa, size } => digest.pages(PageKind::Unmeasured, gpa, size),
            Step::Processor { gpa, data } => digest.contents(PageKind::Vmsa, gpa, data),
            Step::IdBlock { .. } => {}
        }
    }
    digest.value()
}

#[cfg(test)]
mod tests {
    //! A file with every kind of step for two platforms, against the launch digest taken step by step.

    use super::super::{LaunchDigest, PageKind};
    use super::*;
    use crate::igvm::testing::{File, PAGE_DATA};
    use crate::tdx::predict_tdx_igvm;

    const SNP: u32 = 1;
    const TDX: u32 = 2;
    const VMSA_GPA: u64 = 0xffff_ffff_f000;

    fn file() -> File {
        let mut file = File::new(&[(SNP, 2), (TDX, 3)]);
        file.page(0x10_0000, SNP | TDX, 0, 0, &[7; 0x1000]);
        file.page(0x10_1000, SNP, 0, 0, &[]);
        file.page(0x10_2000, SNP | TDX, 2, 0, &[9; 0x1000]);
        file.page(0x10_3000, SNP, 0, 1, &[]);
        file.page(0x10_4000, SNP, 0, 2, &[]);
        file.page(0x10_5000, TDX, 0, 0, &[5; 0x1000]);
        file.page(0x10_6000, SNP | TDX, 4, 0, &[]);
        file.header(0x301, &[0x2000u64.to_le_bytes().as_slice(), &5u32.to_le_bytes(), &[0; 4]].concat());
        file.header(
            0x303,
            &[0x20_0000u64.to_le_bytes().as_slice(), &SNP.to_le_bytes(), &5u32.to_le_bytes()].concat(),
        );
        file.processor(VMSA_GPA, SNP, &[3; 0x1000]);
        file
    }

    fn by_hand(zero: PageKind) -> Digest {
        let mut digest = LaunchDigest::new();
        digest.data(0x10_0000, &[7; 0x1000]);
        match zero {
            PageKind::Zero => digest.page(PageKind::Zero, 0x10_1000),
            _ => digest.data(0x10_1000, &[0; 0x1000]),
        }
        digest.page(PageKind::Unmeasured, 0x10_2000);
        digest.page(PageKind::Secrets, 0x10_3000);
        digest.page(PageKind::Cpuid, 0x10_4000);
        digest.pages(PageKind::Unmeasured, 0x20_0000, 0x2000);
        digest.contents(PageKind::Vmsa, VMSA_GPA, &[3; 0x1000]);
        digest.value()
    }

    fn launch(igvm: &[u8], vmm: Vmm) -> Result<ReferenceValues, LaunchError> {
        predict_snp_igvm(&SnpIgvmLaunch { igvm, vmm, init_data: None })
    }

    #[test]
    fn steps_are_measured_in_the_order_of_the_file() {
        let bytes = file().bytes();
        let values = launch(&bytes, Vmm::Qemu).unwrap();
        let other = by_hand(PageKind::Normal);
        assert_eq!(values.registers()[MEASUREMENT], by_hand(PageKind::Zero));
        assert_eq!(launch(&bytes, Vmm::Gce).unwrap().registers()[MEASUREMENT], other);
        assert_eq!(values.explaining(MEASUREMENT, &other).count(), 1);
        assert!(values.missing_registers().is_empty());
        // Of the same file TDX takes other pages.
        let tdx = predict_tdx_igvm(&bytes, None).unwrap();
        let mut alone = File::new(&[(TDX, 3)]);
        alone.page(0x10_0000, TDX, 0, 0, &[7; 0x1000]);
        alone.page(0x10_2000, TDX, 2, 0, &[]);
        alone.page(0x10_5000, TDX, 0, 0, &[5; 0x1000]);
        let alone = predict_tdx_igvm(&alone.bytes(), None).unwrap();
        assert_eq!(tdx.values.registers(), alone.values.registers());
        assert_eq!(tdx.left_out.len(), 3);
    }

    #[test]
    fn a_large_page_is_its_small_pages() {
        let large: Vec<u8> = (0..0x20_0000u32).map(|at| (at >> 9) as u8).collect();
        let (mut one, mut many) = (File::new(&[(SNP, 2)]), File::new(&[(SNP, 2)]));
        one.page(0x20_0000, SNP, 1, 0, &large);
        for (at, page) in (0x20_0000..).step_by(0x1000).zip(large.chunks(0x1000)) {
            many.page(at, SNP, 0, 0, page);
        }
        let measured = |file: &File| launch(&file.bytes(), Vmm::Qemu).unwrap().registers()[MEASUREMENT];
        assert_eq!(measured(&one), measured(&many));
    }

    #[test]
    fn an_id_block_must_be_for_the_file_s_own_measurement() {
        let block = |measurement: &[u8]| {
            let mut body = vec![0; 0x400];
            body[..4].copy_from_slice(&SNP.to_le_bytes());
            body[8..56].copy_from_slice(measurement);
            body[92..96].copy_from_slice(&4u32.to_le_bytes());
            let mut file = file();
            file.header(0x30b, &body);
            file.bytes()
        };
        let expected = Box::new(by_hand(PageKind::Zero));
        let values = launch(&block(expected.as_bytes()), Vmm::Qemu).unwrap();
        assert_eq!(values.versions()["guest-svn"], Bound::AtLeast(4));
        let found = Box::new(Digest::zero(Algorithm::Sha384));
        assert_eq!(launch(&block(&[0; 48]), Vmm::Qemu), Err(LaunchError::IdBlock { expected, found }));
    }

    #[test]
    fn damaged_files_are_refused_and_none_panics() {
        let good = file().bytes();
        for size in (0..good.len()).step_by(13) {
            assert!(launch(&good[..size], Vmm::Qemu).is_err(), "{size}");
        }
        let headers = file().headers_end();
        for at in 0..headers {
            let mut other = good.clone();
            other[at] ^= 0x10;
            assert!(launch(&other, Vmm::Qemu).is_err(), "byte {at:#x}: the checksum covers it");
        }
        let wrong = |make: fn(&mut File)| {
            let mut file = file();
            make(&mut file);
            launch(&file.bytes(), Vmm::Qemu).unwrap_err()
        };
        let reasons = [
            wrong(|file| file.page(0x10_0001, SNP, 0, 0, &[])),
            wrong(|file| file.page(0x10_0000, SNP, 0, 9, &[])),
            wrong(|file| file.page(!0xfff, SNP, 0, 0, &[])),
            wrong(|file| file.header(0x303, &[0; 4])),
            wrong(|file| file.header(0x303, &[&[0; 8], SNP.to_le_bytes().as_slice(), &[1; 4]].concat())),
            wrong(|file| file.header(PAGE_DATA, &[0; 3])),
        ];
        assert!(reasons.iter().all(|reason| matches!(reason, LaunchError::Igvm(_))), "{reasons:?}");
        let other = File::new(&[(TDX, 3)]).bytes();
        assert_eq!(launch(&other, Vmm::Qemu), Err(LaunchError::Igvm("it does not support SEV-SNP")));
    }
}
