#!/bin/bash
# Init script for user-mode Linux: two kernel PEs with stock FRR and a spine between them, an L3VNI with IPv4 and IPv6
# type-5 routes that come and go, and record.py as the FPM listener of pe1. OUT, a file beside
# this one, names the directory for the results. Run it with: linux.uml rootfstype=hostfs rootflags=/ rw mem=512M init=PATH
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr
here=$(dirname "$(readlink -f "$0")")
result=$(cat "$here/OUT")
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/frr /run/lock /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /var/log
chown frr:frr /run/frr
modprobe -a ipv6 bridge vxlan vrf veth dummy
out=/run/out; mkdir -p $out; chown frr:frr $out

for n in pe1 pe2 spine; do
  ip netns add $n; ip -n $n link set lo up
  ip netns exec $n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
done
link() { ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"; ip -n "$1" link set "$2" up; ip -n "$3" link set "$4" up; }
link pe1 eth0 spine e1; link pe2 eth0 spine e2
ip -n pe1 addr add 192.168.1.1/24 dev eth0; ip -n spine addr add 192.168.1.254/24 dev e1
ip -n pe2 addr add 192.168.2.1/24 dev eth0; ip -n spine addr add 192.168.2.254/24 dev e2
for i in 1 2; do
  n=pe$i
  ip -n $n addr add 10.0.0.$i/32 dev lo
  ip -n $n link add red type vrf table 1001; ip -n $n link set red up
  ip -n $n link add br-pe-100 type bridge
  ip -n $n link set br-pe-100 addrgenmode none address aa:bb:cc:00:00:0$i
  ip -n $n link set br-pe-100 master red up
  ip -n $n link add vni100 type vxlan id 100 local 10.0.0.$i dstport 4789 nolearning
  ip -n $n link set vni100 master br-pe-100 addrgenmode none
  ip -n $n link set vni100 type bridge_slave neigh_suppress on learning off
  ip -n $n link set vni100 up
  ip -n $n link add host type dummy; ip -n $n link set host master red up
  ip -n $n addr add 10.$i.0.1/24 dev host; ip -n $n addr add fd00:$i::1/64 dev host nodad
done

frr() {
  mkdir -p /run/frr/$1
  cat >/run/frr/$1/frr.conf; chown -R frr:frr /run/frr/$1
  module=; [ $1 = pe1 ] && module="-M dplane_fpm_nl"
  ip netns exec $1 zebra -d -N $1 -f /run/frr/$1/frr.conf $module
  ip netns exec $1 staticd -d -N $1 -f /run/frr/$1/frr.conf
  ip netns exec $1 bgpd -d -N $1 -f /run/frr/$1/frr.conf
}
pe() { cat <<CONF
vrf red
 vni 100
exit-vrf
fpm address 127.0.0.1 port 2620
router bgp 6500$1
 bgp router-id 10.0.0.$1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor 192.168.$1.254 remote-as 65000
 address-family ipv4 unicast
  network 10.0.0.$1/32
  neighbor 192.168.$1.254 activate
 exit-address-family
 address-family l2vpn evpn
  neighbor 192.168.$1.254 activate
  advertise-all-vni
 exit-address-family
router bgp 6500$1 vrf red
 bgp router-id 10.0.0.$1
 address-family ipv4 unicast
  redistribute connected
 exit-address-family
 address-family ipv6 unicast
  redistribute connected
 exit-address-family
 address-family l2vpn evpn
  route-target both 65000:100
  advertise ipv4 unicast
  advertise ipv6 unicast
 exit-address-family
CONF
}
ip netns exec pe1 python3 "$here/record.py" fpm $out &
pe 1 | frr pe1
pe 2 | frr pe2
frr spine <<CONF
router bgp 65000
 bgp router-id 10.0.0.254
 no bgp ebgp-requires-policy
 neighbor 192.168.1.1 remote-as 65001
 neighbor 192.168.2.1 remote-as 65002
 address-family l2vpn evpn
  neighbor 192.168.1.1 activate
  neighbor 192.168.1.1 attribute-unchanged next-hop
  neighbor 192.168.2.1 activate
  neighbor 192.168.2.1 attribute-unchanged next-hop
 exit-address-family
CONF
sleep 15
# Routes that come, change and go.
ip -n pe2 addr add 10.3.0.1/24 dev host; sleep 2
ip -n pe2 addr del 10.3.0.1/24 dev host; sleep 1
vtysh -N pe1 -c "conf t" -c "vrf red" -c "ip route 10.4.0.0/24 blackhole" -c "ip route 10.5.0.0/24 10.1.0.7" \
  -c "ip route 10.6.0.0/24 10.0.0.2 br-pe-100 onlink" -c "ip route 10.6.0.0/24 10.1.0.8"; sleep 2
ping -c 1 -W 1 192.168.1.254 >/dev/null 2>&1
ip netns exec pe1 python3 "$here/record.py" netlink $out/netlink.bin
{ vtysh -N pe1 -c "show ip route vrf all" -c "show ipv6 route vrf all"; ip -n pe1 neigh; ip -n pe1 -br addr; ip -n pe1 route show table 1001; } >$out/state.txt 2>&1
# The same state once more, in zebra's other language.
vtysh -N pe1 -c "conf t" -c "no fpm use-next-hop-groups"; sleep 8
cp $out/*.bin $out/state.txt "$result"/
sync
poweroff -f
