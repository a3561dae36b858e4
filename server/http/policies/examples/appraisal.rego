# An appraisal policy to begin from: what the evidence of a machine is worth, in the eight claims of AR4SI
# (draft-ietf-rats-ar4si). Check it with `coffer policy check --for cpu appraisal.rego`, then put it in force with
# `coffer policy set --for cpu appraisal.rego`; the reference values that it asks for are put with
# `coffer ref value set NAME VALUE…`.
#
# 0 says nothing, 2 to 31 affirm, 32 to 95 warn, 96 and more refuse. `input` has the claims of the evidence under the
# name of its TEE, and `query_reference_value(name)` the values that an owner gave.
package policy

import rego.v1

trust_claims := {
	"instance-identity": instance_identity,
	"configuration": configuration,
	"executables": executables,
	"file-system": 0,
	"hardware": hardware,
	"runtime-opaque": runtime_opaque,
	"storage-opaque": 0,
	"sourced-data": 0,
}

# What nothing below says is refused: unknown code, unknown hardware, unsafe configuration.
default executables := 99

default hardware := 99

default configuration := 99

default runtime_opaque := 99

default instance_identity := 0

listed(name, value) if {
	values := query_reference_value(name)
	is_array(values)
	value in values
}

# A name without a value bounds nothing: then this does not hold.
at_least(name, value) if {
	bound := query_reference_value(name)
	is_number(bound)
	value >= bound
}

current_status := {"UpToDate", "SWHardeningNeeded"}

# --- AMD SEV-SNP

executables := 2 if listed("snp_measurement", input.snp.measurement)

hardware := 2 if {
	at_least("snp_bootloader_minimum", input.snp.reported_tcb_bootloader)
	at_least("snp_tee_minimum", input.snp.reported_tcb_tee)
	at_least("snp_snp_minimum", input.snp.reported_tcb_snp)
	at_least("snp_microcode_minimum", input.snp.reported_tcb_microcode)
}

configuration := 2 if {
	input.snp.policy_debug_allowed == false
	input.snp.policy_migrate_ma == false
}

runtime_opaque := 2 if input.snp.policy_debug_allowed == false

instance_identity := 2 if listed("snp_chips", input.snp.chip_id)

# --- Intel TDX: the kernel and its command line by register, or else by event

executables := 2 if {
	listed("tdx_rtmr_1", input.tdx.quote.body.rtmr_1)
	listed("tdx_rtmr_2", input.tdx.quote.body.rtmr_2)
}

else := 3 if {
	tdx_kernel
	tdx_command_line
}

tdx_kernel if {
	some event in input.tdx.uefi_event_logs
	event.type_name == "EV_EFI_BOOT_SERVICES_APPLICATION"
	some digest in event.digests
	listed("tdx_kernel", digest.digest)
}

# Only what its digest covers can be believed of an event's data.
tdx_command_line if {
	some event in input.tdx.uefi_event_logs
	event.type_name == "EV_EVENT_TAG"
	event.digest_matches_event == true
	listed("tdx_command_line", event.details.string)
}

hardware := 2 if {
	listed("tdx_mr_td", input.tdx.quote.body.mr_td)
	input.tdx.tcb_status in current_status
	input.tdx.collateral_expiration_status == "0"
}

else := 32 if {
	listed("tdx_mr_td", input.tdx.quote.body.mr_td)
	every advisory in input.tdx.advisory_ids {
		listed("tdx_accepted_advisories", advisory)
	}
}

configuration := 2 if {
	input.tdx.td_attributes.debug == false
	listed("tdx_xfam", input.tdx.quote.body.xfam)
}

runtime_opaque := 2 if input.tdx.td_attributes.debug == false

# --- A TPM: what was started is known, and nothing is hidden from the host

executables := 2 if {
	listed("tpm_pcr04", input.tpm.pcr04)
	listed("tpm_pcr09", input.tpm.pcr09)
}

hardware := 32 if input.tpm

configuration := 2 if listed("tpm_pcr07", input.tpm.pcr07)

runtime_opaque := 96 if input.tpm
