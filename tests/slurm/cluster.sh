#!/usr/bin/env bash
# A real SLURM of four nodes on this one machine, for tests: two with CPUs, two with stand-in GPUs.
#   tests/slurm/cluster.sh install     tests/slurm/cluster.sh up [accounting]     tests/slurm/cluster.sh down [wipe]
# Needs root and Debian's packages (installed if they are missing); no systemd. The stand-in GPUs are
# device nodes that do nothing, which is what SLURM needs to hand them out.
set -euo pipefail

NODES="n1 n2 n3 n4"
running() { [ -f "/run/$1.pid" ] && kill -0 "$(cat "/run/$1.pid")" 2>/dev/null; }

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    command -v slurmctld >/dev/null && return
    apt-get update -q
    apt-get install -yq --no-install-recommends munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins
}

lay_out() {
    host=$(hostname -s)
    getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
    install -d -o munge -g munge -m 755 /run/munge
    install -d /etc/slurm /var/log/slurm /var/spool/slurmctld /var/lib/fakegpu
    for n in $NODES; do install -d "/var/spool/slurmd/$n"; done
    for i in 0 1 2 3; do
        [ -e "/var/lib/fakegpu/nvidia$i" ] || mknod "/var/lib/fakegpu/nvidia$i" c 1 3
    done
    munge -n >/dev/null 2>&1 || su -s /bin/sh munge -c /usr/sbin/munged
}

tracking() { # memory limits by cgroup where this machine lets us, else by sampling
    if [ -d /sys/fs/cgroup/memory ] && mkdir /sys/fs/cgroup/memory/_probe 2>/dev/null; then
        rmdir /sys/fs/cgroup/memory/_probe
        printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup JobAcctGatherType=jobacct_gather/cgroup
    else
        printf '%s\n' ProctrackType=proctrack/linuxproc TaskPlugin=task/none \
            JobAcctGatherType=jobacct_gather/linux JobAcctGatherParams=OverMemoryKill
    fi
}

start_accounting() {
    command -v slurmdbd >/dev/null && command -v mysqld_safe >/dev/null ||
        DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends slurmdbd mariadb-server
    install -d -o mysql -g mysql /run/mysqld
    mysqladmin ping >/dev/null 2>&1 ||
        setsid nohup mysqld_safe --user=mysql --bind-address=127.0.0.1 >/dev/null 2>&1 </dev/null &
    for _ in $(seq 60); do mysqladmin ping >/dev/null 2>&1 && break; sleep .5; done
    mysql -e "create database if not exists slurm_acct_db;
        create user if not exists 'slurm'@'localhost' identified by 'slurm';
        grant all on slurm_acct_db.* to 'slurm'@'localhost'"
    cat >/etc/slurm/slurmdbd.conf <<CONF
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
    chmod 600 /etc/slurm/slurmdbd.conf
    running slurmdbd || slurmdbd
    for _ in $(seq 40); do sacctmgr -n list cluster >/dev/null 2>&1 && break; sleep .5; done
}

configure() {
    if [ -f /etc/slurm/slurm.conf ] && ! grep -q "^ClusterName=fake$" /etc/slurm/slurm.conf; then
        echo "/etc/slurm/slurm.conf is of another SLURM, which is left alone" >&2
        exit 1
    fi
    if [ "$1" = accounting ]; then
        accounting=$(printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd \
            AccountingStorageHost=localhost AccountingStorageTRES=gres/gpu \
            AccountingStorageEnforce=limits)
    else
        accounting=AccountingStorageType=accounting_storage/none
    fi
    cat >/etc/slurm/slurm.conf <<CONF
ClusterName=fake
SlurmctldHost=$(hostname -s)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
MailProg=/bin/true
MpiDefault=none
$(tracking)
JobAcctGatherFrequency=2
SwitchType=switch/none
ReturnToService=2
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd-%n.pid
SlurmdSpoolDir=/var/spool/slurmd/%n
StateSaveLocation=/var/spool/slurmctld
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
KillWait=30
MinJobAge=300
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
$accounting
NodeName=n[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=8 RealMemory=16000 State=UNKNOWN
NodeName=n[3-4] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[17003-17004] CPUs=8 RealMemory=16000 Gres=gpu:h100:4 State=UNKNOWN
PartitionName=cpu Nodes=n[1-2] Default=YES DefMemPerCPU=500 MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n[3-4] DefMemPerCPU=500 MaxTime=INFINITE State=UP
CONF
    cat >/etc/slurm/gres.conf <<CONF
AutoDetect=off
NodeName=n[3-4] Name=gpu Type=h100 File=/var/lib/fakegpu/nvidia[0-3]
CONF
    cat >/etc/slurm/cgroup.conf <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
CONF
}

up() {
    install_packages
    lay_out
    configure "$1"
    [ "$1" = accounting ] && start_accounting
    running slurmctld || slurmctld
    for n in $NODES; do running "slurmd-$n" || slurmd -N "$n"; done
    for _ in $(seq 40); do
        [ "$(sinfo -h -N -o %t 2>/dev/null | grep -c idle)" = 4 ] && break
        sleep .5
    done
    if [ "$1" = accounting ]; then
        sacctmgr -i -Q add account acc cluster=fake >/dev/null || true
        sacctmgr -i -Q add user root account=acc cluster=fake >/dev/null || true
    fi
    sinfo -N -o "%N %P %t %c %m %G"
}

stop() { # a daemon by its file of the process's number; returns when it is gone
    [ -f "$1" ] || return 0
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep .1; done
    kill -9 "$pid" 2>/dev/null || true
}

down() {
    if ! grep -q "^ClusterName=fake$" /etc/slurm/slurm.conf 2>/dev/null; then
        echo "no cluster of this script is configured here: nothing is stopped"
        return 0
    fi
    for n in $NODES; do stop "/run/slurmd-$n.pid"; done
    stop /run/slurmctld.pid
    stop /run/slurmdbd.pid
    if [ -S /run/mysqld/mysqld.sock ]; then mysqladmin shutdown; fi
    stop /run/munge/munged.pid
    if [ "$1" = wipe ]; then
        rm -rf /var/spool/slurmctld/* /var/spool/slurmd/*/* /var/log/slurm/* /etc/slurm/slurm.conf
    fi
}

case "${1:-}" in
    install) install_packages ;;
    up) up "${2:-none}" ;;
    down) down "${2:-keep}" ;;
    *) echo "usage: $0 install | up [accounting] | down [wipe]" >&2; exit 2 ;;
esac
