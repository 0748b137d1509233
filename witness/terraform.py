"""Has Microsoft's Terraform provider make a connection and mirrored databases in
the emulator: create, a plan that finds nothing to do, change, destroy.
`terraform.py PGMIRROR`. TERRAFORM_PROVIDER_FABRIC names the provider's binary
(terraform-provider-fabric, of github.com/microsoft/terraform-provider-fabric),
TERRAFORM a terraform or tofu; without them this tells so and does nothing: no
package registry has the provider."""

import json
import os
import shutil
import subprocess
import sys

from emulator import PATIENCE, Emulator, Verdict, open_definition

TERRAFORM = os.environ.get("TERRAFORM") or shutil.which("terraform") or shutil.which("tofu")
PROVIDER = os.environ.get("TERRAFORM_PROVIDER_FABRIC")

MAIN = """
terraform {
  required_providers {
    fabric = { source = "microsoft/fabric" }
  }
}
variable "workspace" {}
variable "server" {}
variable "password" { sensitive = true }
variable "database" {}
variable "name" {}
variable "retention" {}
resource "fabric_connection" "server" {
  display_name      = var.name
  connectivity_type = "ShareableCloud"
  privacy_level     = "Organizational"
  connection_details = {
    type            = "PostgreSQL"
    creation_method = "PostgreSql"
    parameters = [
      { name = "server", value = var.server },
      { name = "database", value = var.database },
    ]
  }
  credential_details = {
    connection_encryption = "Encrypted"
    credential_type       = "Basic"
    single_sign_on_type   = "None"
    skip_test_connection  = false
    basic_credentials = {
      username            = "pgadmin"
      password_wo         = var.password
      password_wo_version = 1
    }
  }
}
resource "fabric_mirrored_database" "native" {
  display_name = "native"
  description  = var.name
  workspace_id = var.workspace
  format       = "Default"
  definition = {
    "mirroring.json" = {
      source = "${path.module}/native.json.tmpl"
      tokens = { "CONNECTION" = fabric_connection.server.id, "DATABASE" = var.database, "RETENTION" = var.retention }
    }
  }
}
resource "fabric_mirrored_database" "open" {
  display_name = "open"
  workspace_id = var.workspace
  format       = "Default"
  definition = {
    "mirroring.json" = {
      source = "${path.module}/open.json.tmpl"
      tokens = { "RETENTION" = var.retention }
    }
  }
}
"""

NATIVE = """{"properties": {
  "source": {"type": "AzurePostgreSql", "typeProperties": {"connection": "{{ .CONNECTION }}", "database": "{{ .DATABASE }}"}},
  "target": {"type": "MountedRelationalDatabase", "typeProperties": {"defaultSchema": "public", "format": "Delta", "retentionInDays": {{ .RETENTION }}}}
}}"""


class Terraform:
    def __init__(self, emulator, folder, provider):
        self.folder, self.variables = folder, {}
        os.mkdir(folder)
        self.write("main.tf", MAIN)
        self.write("native.json.tmpl", NATIVE)
        self.write("open.json.tmpl", json.dumps(open_definition(retentionInDays="RETENTION")).replace('"RETENTION"', "{{ .RETENTION }}"))
        self.write("terraformrc", 'provider_installation {\n  dev_overrides {\n    "microsoft/fabric" = "%s"\n  }\n  direct {}\n}\n' % provider)
        self.env = os.environ | {
            "TF_CLI_CONFIG_FILE": os.path.join(folder, "terraformrc"), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
            "SSL_CERT_FILE": emulator.env["CA_FILE"], "FABRIC_ENDPOINT": emulator.env["FABRIC_ENDPOINT"],
            "FABRIC_USE_MSI": "true", "FABRIC_TENANT_ID": "00000000-0000-0000-0000-000000000001",
            "IDENTITY_ENDPOINT": emulator.env["IDENTITY_ENDPOINT"], "IDENTITY_HEADER": emulator.env["IDENTITY_HEADER"],
        }

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, *args, **variables):
        """Gives the exit code; what it said is told when it wasn't wanted."""
        self.variables |= variables
        env = self.env | {"TF_VAR_" + k: v for k, v in self.variables.items()}
        done = subprocess.run([TERRAFORM, *args, "-no-color", "-input=false"], cwd=self.folder, env=env, timeout=5 * PATIENCE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def wants(self, see, what, code, *args, **variables):
        got, said = self.run(*args, **variables)
        see.see(what, got == code, f"exit {got}, want {code}\n{said}")


def play(see, e, folder, provider):
    items = f"/workspaces/{e.workspace}/items"
    names = lambda: sorted((i["type"], i["displayName"]) for i in e.fabric("GET", items)["value"])
    server = e.env["POSTGRES_URL"].split("@")[1].split("/")[0]
    tf = Terraform(e, folder, provider)
    plan, apply = ("plan", "-detailed-exitcode"), ("apply", "-auto-approve")
    tf.wants(see, "a plan finds everything to do", 2, *plan, workspace=e.workspace, server=server, database="postgres",
             password=e.secret("postgres-admin-password"), name="one", retention="7")
    tf.wants(see, "apply makes connection and mirrored databases", 0, *apply)
    want = [("MirroredDatabase", "native"), ("MirroredDatabase", "open"), ("SQLEndpoint", "native"), ("SQLEndpoint", "open")]
    see.see("they are there, with their SQL endpoints", names() == want, names())
    tf.wants(see, "a second plan finds nothing to do", 0, *plan)
    tf.wants(see, "another name and another definition are applied", 0, *apply, name="two", retention="3")
    tf.wants(see, "a plan finds nothing to do again", 0, *plan)
    names_now = [c["displayName"] for c in e.fabric("GET", "/connections")["value"]]
    see.see("the connection has its new name", names_now == ["two"], names_now)
    tf.wants(see, "a wrong password is refused", 1, *apply, "-replace=fabric_connection.server", password="wrong", name="three")
    tf.wants(see, "destroy", 0, "destroy", "-auto-approve", password=e.secret("postgres-admin-password"))
    see.see("nothing is left", names() == [] and e.fabric("GET", "/connections")["value"] == [], names())


def main(pgmirror):
    if not PROVIDER or not TERRAFORM:
        missing = "TERRAFORM_PROVIDER_FABRIC names no terraform-provider-fabric" if not PROVIDER else "there is no terraform or tofu"
        print(f"Terraform: not run, {missing}")
        return 0
    version = subprocess.run([TERRAFORM, "version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.split("\n")[0]
    see = Verdict(version)
    with Emulator(pgmirror, "--long-running", "--operation-delay", "1s") as e:
        folder = os.path.join(e.dir.name, "terraform")
        links = os.path.join(e.dir.name, "provider")  # dev_overrides wants a folder with the usual name in it
        os.mkdir(links)
        os.symlink(os.path.abspath(PROVIDER), os.path.join(links, "terraform-provider-fabric"))
        play(see, e, folder, links)
    return see.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
