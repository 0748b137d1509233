package setup

import (
	"net"
	"strings"
)

// provider is a place where PostgreSQL runs and wal_level isn't set in SQL: its
// own switch is named instead.
type provider struct {
	name     string
	suffixes []string
	next     func(host string) string // a command that can be typed, or a page to open
}

var providers = []provider{
	{"Amazon RDS", []string{".rds.amazonaws.com", ".rds.amazonaws.com.cn"}, func(host string) string {
		instance, _, _ := strings.Cut(host, ".")
		group := "$(aws rds describe-db-instances --db-instance-identifier " + instance + " --query 'DBInstances[0].DBParameterGroups[0].DBParameterGroupName' --output text)"
		if strings.Contains(host, ".cluster-") {
			group = "$(aws rds describe-db-clusters --db-cluster-identifier " + instance + " --query 'DBClusters[0].DBClusterParameterGroup' --output text)"
			return `aws rds modify-db-cluster-parameter-group --db-cluster-parameter-group-name "` + group + `" --parameters ParameterName=rds.logical_replication,ParameterValue=1,ApplyMethod=pending-reboot`
		}
		return `aws rds modify-db-parameter-group --db-parameter-group-name "` + group + `" --parameters ParameterName=rds.logical_replication,ParameterValue=1,ApplyMethod=pending-reboot`
	}},
	{"Neon", []string{".neon.tech"}, func(string) string { return "open https://console.neon.tech/app/projects" }},
	{"Supabase", []string{".supabase.co", ".supabase.com"}, func(string) string {
		return "supabase --experimental postgres-config update --config wal_level=logical"
	}},
	{"Azure flexible server", []string{".postgres.database.azure.com", ".postgres.database.usgovcloudapi.net", ".postgres.database.chinacloudapi.cn"}, func(host string) string {
		name, _, _ := strings.Cut(host, ".")
		return `export POSTGRES_SERVER_ID="$(az postgres flexible-server list --query "[?name=='` + name + `'].id" -o tsv)"`
	}},
}

// providerOf knows a provider by its host names; Cloud SQL has none, but says so
// by settings that only it has.
func providerOf(host, settings string) (name string, next string) {
	for _, p := range providers {
		for _, s := range p.suffixes {
			if strings.HasSuffix(strings.ToLower(host), s) {
				return p.name, p.next(host)
			}
		}
	}
	if strings.Contains(settings, "cloudsql.") {
		return "Cloud SQL", `gcloud sql instances patch "$(gcloud sql instances list --filter="ipAddresses.ipAddress:` + addressOf(host) + `" --format="value(name)")" --database-flags=cloudsql.logical_decoding=on`
	}
	return "", ""
}

func addressOf(host string) string {
	if net.ParseIP(host) != nil {
		return host
	}
	return "$(dig +short " + host + ")"
}
