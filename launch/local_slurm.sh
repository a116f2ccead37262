#!/usr/bin/env bash
# A real Slurm on this one machine, to try job arrays on: installs it (Debian, root), writes its configuration, starts it.
#   bash launch/local_slurm.sh start FOLDER      then: export SLURM_CONF=FOLDER/slurm.conf
#   bash launch/local_slurm.sh stop FOLDER
set -euo pipefail
verb=${1:?start or stop} folder=$(readlink -m "${2:?folder for its state}")
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf

if [ "$verb" = stop ]; then
    for daemon in slurmd slurmctld; do
        [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    done
    exit 0
fi

[ "$(id -u)" = 0 ] || { echo "error: a local Slurm needs root, to install it and to start its daemons" >&2; exit 2; }
command -v slurmctld >/dev/null || {
    apt-get update -q && apt-get install -y -q --no-install-recommends slurm-wlm munge
} >&2 || { echo "error: slurm-wlm and munge could not be installed with apt-get" >&2; exit 2; }
install -d -o munge -g munge -m 755 /run/munge
munge -n >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
mkdir -p "$folder/state" "$folder/spool"

# Preemption by partition; no cgroups, no accounting; jobs that end with 143 (told to stop) are queued again.
cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=200000
SwitchType=switch/none
ReturnToService=2
SlurmctldPort=16817
SlurmdPort=16818
KillWait=5
JobRequeue=1
RequeueExit=143
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=local Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
slurmctld
sleep 1
slurmd
for _ in $(seq 30); do
    sinfo --noheader --format=%t | grep -q idle && exit 0
    sleep 1
done
echo "error: the node did not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
exit 2
