# An example to copy: each guest gets only what is listed for it. The built-in policies ask whether a guest is
# affirmed and never which one it is, so with them every affirmed guest gets every resource.
# Put it in force with `coffer policy set separate.rego`.
package policy

import rego.v1

# For the first part of a resource's path, the guests that may have what is below it: by the digest of the init-data
# (`coffer init-data` shows it; here without `sha256:`), or by the id of the reference value that the guest equals
# (`coffer ref list`), which covers firmware, kernel, command line, initial ramdisk and init-data together.
guests := {"a": {
	"init-data": {"0000000000000000000000000000000000000000000000000000000000000000"},
	"reference": {"tpm-000000000000000000000000"},
}}

cpu := object.get(object.get(input, "submods", {}), "cpu0", {})

evidence := object.get(cpu, "ear.veraison.annotated-evidence", {})

about := object.get(evidence, "coffer", {})

path := object.get(data, "resource-path", "")

# As in `default`: affirmed, and on hardware. Evidence from software would be denied without a rule for it, too: only
# a policy with the rule `insecure_software_evidence := true` accepts it.
deny contains {"code": cause.code, "message": cause.title} if {
	some cause in object.get(about, "causes", [])
}

deny contains {"code": "policy.not-affirming", "message": "The appraisal does not affirm this guest."} if {
	object.get(cpu, "ear.status", "none") != "affirming"
}

deny contains {"code": "policy.software-evidence", "message": "The evidence is from software."} if {
	object.get(about, "hardware", false) != true
}

# And listed for this path. What the token lacks is "", which is listed nowhere, so that it refuses.
deny contains {
	"code": "policy.not-listed",
	"message": sprintf("This guest is not listed for %s.", [path]),
	"remedy": "List its reference value or its init-data for the path in the resource policy, if it may have it.",
} if {
	not listed
}

listed if {
	object.get(evidence, "init_data", "") in object.get(owned, "init-data", set())
}

listed if {
	tpm := object.get(evidence, "tpm", {})
	object.get(object.get(tpm, "reference", {}), "id", "") in object.get(owned, "reference", set())
}

owned := object.get(guests, split(path, "/")[0], {})
