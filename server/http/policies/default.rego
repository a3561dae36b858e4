# Releases resources to affirmed guests on TEE hardware. The policy in force unless an owner puts another one.
package policy

import rego.v1

cpu := object.get(object.get(input, "submods", {}), "cpu0", {})

about := object.get(object.get(cpu, "ear.veraison.annotated-evidence", {}), "coffer", {})

# The reasons of the verdict are the reasons of the refusal.
deny contains cause_denial(cause) if {
	some cause in object.get(about, "causes", [])
}

deny contains {
	"code": "policy.not-affirming",
	"message": "The appraisal does not affirm this guest.",
	"expected": "affirming",
	"found": object.get(cpu, "ear.status", "none"),
	"remedy": "See what differs with `coffer explain`; add reference values if the guest is the one you want.",
} if {
	object.get(cpu, "ear.status", "none") != "affirming"
}

deny contains {
	"code": "policy.software-evidence",
	"message": "The evidence is from software, which protects nothing from its host; the policy asks for hardware.",
	"expected": "evidence rooted in TEE hardware",
	"found": "evidence of a software TPM",
	"remedy": "Run on TEE hardware. In a lab: `coffer policy set --preset insecure-lab`, or `insecure_software_evidence := true` in a policy of your own.",
} if {
	object.get(about, "hardware", false) != true
}

# The same of each device that came with the machine.
deny contains cause_denial(cause) if {
	some name, device in object.get(input, "submods", {})
	name != "cpu0"
	own := object.get(object.get(device, "ear.veraison.annotated-evidence", {}), "coffer", {})
	some cause in object.get(own, "causes", [])
}

deny contains {
	"code": "policy.device-not-affirming",
	"message": sprintf("The appraisal does not affirm the device %s.", [name]),
	"expected": "affirming",
	"found": object.get(device, "ear.status", "none"),
	"remedy": "See what differs with `coffer explain`, or start the guest without this device.",
} if {
	some name, device in object.get(input, "submods", {})
	name != "cpu0"
	object.get(device, "ear.status", "none") != "affirming"
}

cause_denial(cause) := object.union(
	{"code": cause.code, "message": cause.title},
	{name: cause[name] | some name in ["expected", "found", "remedy"]; cause[name]},
)
