# The user's daemon.json (slurped as $file), plus what $settings asks for, but for keys that a flag in $arguments sets.
# Each line of $settings: kind, key, value, with tabs between. Kinds that begin with `auto-` give way to the user; `drop`
# takes the key away.

def words: [splits("[,;\\s]+") | select(. != "")];
def pools: [splits("[;\\s]+") | select(. != "")
  | capture("^base=(?<base>[^,]+),size=(?<size>[0-9]+)$") | .size |= tonumber];

# The key of daemon.json is the plural of the flag where it holds a list.
def flag: if . == "registry-mirrors" then "registry-mirror"
  elif . == "insecure-registries" then "insecure-registry"
  elif . == "default-address-pools" then "default-address-pool"
  elif . == "default-network-opts" then "default-network-opt"
  else . end;

def is_flag($key): $key | flag | IN($arguments | split("\n")[] | split("\t")[0]);

# One key and its value, where no flag names it. A list is added to the user's list, an object to the user's object; all
# else takes its place.
def put($automatic; $key; $value):
  if is_flag($key) then .
  elif (.[$key] | type) == "object" then .[$key] = if $automatic then $value * .[$key] else .[$key] * $value end
  elif $automatic and has($key) then .
  elif (.[$key] | type) == "array" then .[$key] = $value + (.[$key] - $value)
  else .[$key] = $value end;

reduce ($settings | split("\n")[] | select(. != "") | split("\t")) as [$kind, $key, $value] ($file[0] // {};
  ($kind | startswith("auto-")) as $automatic
  | ($kind | ltrimstr("auto-")) as $type
  | if $type == "drop" then del(.[$key])
    elif $type == "list" then put($automatic; $key; $value | words)
    elif $type == "pools" then put($automatic; $key; $value | pools)
    elif $type == "number" then put($automatic; $key; $value | tonumber)
    elif $type == "boolean" then put($automatic; $key; $value == "true")
    elif $type == "mtu" and is_flag("mtu") and ($automatic | not) then .
    elif $type == "mtu" then put($automatic; "mtu"; $value | tonumber)
      # `mtu` is for the default bridge alone: https://github.com/moby/moby/pull/43197
      | put($automatic; "default-network-opts"; {bridge: {"com.docker.network.driver.mtu": $value}})
    else put($automatic; $key; $value) end)
