package localpg

import (
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

func bind(*exec.Cmd, *owner) {}

// guard puts the child into a job that Windows ends with this process.
func guard(pid int) (release func(), err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	release = func() { _ = windows.CloseHandle(job) } // the child has ended
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		return nil, err
	}
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(h)
	return release, windows.AssignProcessToJobObject(job, h)
}

// signal asks the postmaster to shut down through pg_ctl: Windows has no signals.
func (c *Cluster) signal(_ *process, mode shutdown) error {
	return exec.Command(tool(c.opts.Bin, "pg_ctl"), "-D", c.data(), "-m", string(mode), "--no-wait", "stop").Run()
}

func quit(p *os.Process) error { return p.Kill() }

func alive(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(h)
	e, err := windows.WaitForSingleObject(h, 0)
	return err == nil && e == uint32(windows.WAIT_TIMEOUT)
}
