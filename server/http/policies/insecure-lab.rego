# INSECURE: releases resources to affirmed guests even if no hardware protects them from their host.
# For laboratories and tests. Whoever runs the host of such a guest can read every resource it gets.
package policy

import rego.v1

# Without this rule, software evidence gets nothing under any policy.
insecure_software_evidence := true

cpu := object.get(object.get(input, "submods", {}), "cpu0", {})

about := object.get(object.get(cpu, "ear.veraison.annotated-evidence", {}), "coffer", {})

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
